"""A finished run -> a model bundle: configuration, encoder in half precision, front end, heads, attribution."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import ASTModel

from tunelab.encoder.bundle import RANGES
from tunelab.heads.mlp import save_heads
from tunelab.training.clips import FRONT_END
from tunelab.training.student import Student, ast_config
from tunelab.types import FloatArray

_HEADER = "| package | "
"""How the table of packages begins."""


def to_ast(student: Student) -> ASTModel:
    """The student's encoder as a plain ASTModel with all 938 tokens; the projectors stay behind."""
    layers = len(student.ast.layers)
    model = ASTModel(ast_config(layers)).eval()
    # The final norm is never applied before the embedding is read; the fresh one (weight 1, bias 0) is kept so that
    # the file loads strictly in transformers.
    model.load_state_dict({**model.state_dict(), **student.ast.state_dict()})
    with torch.no_grad():
        model.embeddings.position_embeddings.zero_()
        model.embeddings.position_embeddings[0, 2:] = student.positions()
    return model


def write_encoder(student: Student, mean: float, std: float, bundle: Path) -> None:
    """Write ``config.json``, ``preprocessor_config.json`` and ``model.safetensors`` (fp16).

    Ranges for 8-bit integers that were measured on another encoder are taken away.
    """
    bundle.mkdir(parents=True, exist_ok=True)
    (bundle / RANGES).unlink(missing_ok=True)
    model = to_ast(student)
    layers = len(student.ast.layers)
    config = {**model.config.to_dict(), "architectures": ["ASTModel"]}
    config.pop("_name_or_path", None)
    config["tunelab"] = {"layer": layers, "pooling": "mean", "time_patch_stride": 1}
    write_json(bundle / "config.json", config)
    write_front_end(mean, std, bundle)
    weights = {name: value.half().contiguous() for name, value in model.state_dict().items()}
    save_file(weights, bundle / "model.safetensors", metadata={"format": "pt"})


def write_front_end(mean: float, std: float, bundle: Path) -> None:
    """Write ``preprocessor_config.json``: the front end of rendered clips, standardised with these, in dB."""
    write_json(bundle / "preprocessor_config.json", {**FRONT_END, "mean": mean, "std": std})


def write_heads(tensors: Mapping[str, FloatArray], bundle: Path) -> None:
    """Write ``heads.safetensors`` after the checks that loading makes."""
    save_heads(bundle / "heads.safetensors", dict(tensors))


def write_attribution(manifest: Path, root: Path, bundle: Path, *, add: bool = False) -> dict[str, Any]:
    """Write ``ATTRIBUTION.md``: each package of the corpus and the licences that its copyright file names.

    Args:
        manifest: of the corpus.
        root: its unpacked packages.
        bundle: where to.
        add: what is named there stays, as it is; other packages are added.

    Returns:
        Counts for the card: tracks, hours and packages.
    """
    import pandas as pd

    table = pd.read_parquet(manifest)
    path = bundle / "ATTRIBUTION.md"
    named_before = {}
    if add and path.exists():
        rows = (
            line for line in path.read_text().splitlines() if line.startswith("| ") and not line.startswith(_HEADER)
        )
        named_before = {line.split("|")[1].strip(): line for line in rows}
    lines = [
        "# Attribution",
        "",
        "The encoder learnt from audio in the Debian packages marked `train`; those marked `heldout` were only",
        "measured on. No audio is part of this bundle. The licences are those that the package's own copyright file",
        "names (for all of its files, not only the audio).",
        "",
        "The teachers that labelled this audio: vibenet 0.1.0 (GPL-3.0) and musicnn 0.1.0 (ISC; Pons and Serra,",
        "arXiv 1909.06654). Neither their code nor their weights are part of this bundle.",
        "",
        f"{_HEADER}split | files | hours | licences named |",
        "|---|---|---|---|---|",
    ]
    found = {}
    for package, group in table.groupby("package"):
        named = licences_named(root / group.licence.iloc[0]) if group.licence.iloc[0] else []
        found[str(package)] = (
            f"| {package} | {group.split.iloc[0]} | {len(group)} | {group.seconds.sum() / 3600:.2f} "
            f"| {', '.join(named) or 'see the package'} |"
        )
    path.write_text("\n".join([*lines, *(line for _, line in sorted((found | named_before).items()))]) + "\n")
    counts: dict[str, Any] = {}
    for kind, group in table.groupby("kind"):
        counts[str(kind)] = {
            "files": len(group),
            "hours": round(float(group.seconds.sum()) / 3600, 2),
            "packages": int(group.package.nunique()),
            "heldout_packages": sorted(set(group.package[group.split == "heldout"])),
        }
    return counts


def licences_named(copyright_file: Path) -> list[str]:
    """Short names in the ``License:`` fields of a Debian copyright file, sorted, without repetition."""
    if not copyright_file.is_file():
        return []
    names = set()
    for line in copyright_file.read_text(encoding="utf-8", errors="replace").splitlines():
        if line.lower().startswith("license:") and (name := line[8:].strip()):
            names.add(name.replace("|", "/")[:60])
    return sorted(names)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Indented JSON with a final newline."""
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
