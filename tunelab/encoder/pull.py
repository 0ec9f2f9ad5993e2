"""Published MAEST checkpoints: from the Hugging Face hub to a model bundle without heads.

The bundle appears whole or not at all, and its card tells the commit that it came from.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from tunelab.encoder.bundle import CARD, CONFIG, PREPROCESSOR, WEIGHTS, Bundle
from tunelab.encoder.checkpoint import FRONT_END, CheckpointConfig, check_front_end, cut, read_config, read_weights
from tunelab.encoder.hub import Checkpoint, download, find_checkpoint, full_name, sha256_of
from tunelab.errors import BundleError, SettingsError

__all__ = ["LAYER", "Checkpoint", "Pooling", "check_target", "default_target", "find_checkpoint", "full_name", "pull"]

Pooling = Literal["cls", "dist", "mean"]

LAYER = 6
"""Index of the last block that is kept: the paper found its embeddings the best for other tasks."""
PAPER = (
    "P. Alonso-Jiménez, X. Serra, D. Bogdanov: Efficient Supervised Training of Audio Transformers for Music "
    "Representation Learning. ISMIR 2023. https://arxiv.org/abs/2309.16418"
)


def default_target(repository: str) -> Path:
    """Where a repository's bundle goes by default: a folder in which :func:`~tunelab.encoder.find_bundle` searches."""
    data_home = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(data_home) / "tunelab" / "models" / full_name(repository).partition("/")[2]


def check_target(target: Path, *, force: bool = False) -> None:
    """Refuse a target that must not be written.

    Raises:
        BundleError: it exists and ``force`` is not given, or it is neither a bundle nor an empty folder.
    """
    if not os.path.lexists(target):
        return
    if not force:
        raise BundleError(f"{target.name} exists already; --force replaces it, --out names another folder")
    if target.is_dir() and not any(target.iterdir()):
        return
    try:
        Bundle.open(target)
    except BundleError as error:
        raise BundleError(f"{target.name} exists and is no model bundle; it is not replaced") from error


def pull(
    checkpoint: Checkpoint, target: Path, *, layer: int = LAYER, pooling: Pooling = "cls", force: bool = False
) -> Bundle:
    """Download a checkpoint, check it, cut it, and write the bundle.

    Args:
        checkpoint: what :func:`find_checkpoint` found.
        target: the bundle's folder; its parents are made.
        layer: index of the last block to keep, from 0.
        pooling: the class token, the distillation token, or the mean of the patch tokens.
        force: replace the bundle that is there, with everything in it.

    Raises:
        SettingsError: the checkpoint has no such block.
        BundleInvalid: the files are not a MAEST checkpoint, are damaged, or are not what the hub said.
        BundleError: the hub did not answer, or ``target`` may not or cannot be written.
    """
    target = target.expanduser().resolve()
    check_target(target, force=force)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # Beside the target, so that one renaming brings it there; one folder deeper than where bundles are looked for.
        with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as scratch:
            unfinished = Path(scratch) / "bundle"
            unfinished.mkdir()
            source = download(checkpoint, Path(scratch) / "download")
            _write(checkpoint, source, unfinished, target.name, layer, pooling)
            _replace(target, unfinished, Path(scratch) / "old" if force else None)
    except OSError as error:
        raise BundleError(f"{target.name} cannot be written: {error.strerror}") from error
    return Bundle.open(target)


def _replace(target: Path, unfinished: Path, old: Path | None) -> None:
    """Bring the bundle to its place; what is there goes to ``old``, and comes back if that fails."""
    moved = old is not None and target.exists()
    if old is not None and moved:
        target.rename(old)
    try:
        # Fails where another process has just made a folder with something in it.
        unfinished.rename(target)
    except OSError:
        if old is not None and moved:
            old.rename(target)
        raise


def _write(checkpoint: Checkpoint, source: Path, bundle: Path, name: str, layer: int, pooling: Pooling) -> None:
    from safetensors.torch import save
    from transformers import ASTConfig

    from tunelab.encoder.maest import load_maest

    config = read_config(source / CONFIG)
    check_front_end(source / PREPROCESSOR)
    if not 0 <= layer < config.num_hidden_layers:
        raise SettingsError(f"{checkpoint.repository} has blocks 0 to {config.num_hidden_layers - 1}, no block {layer}")
    kept = {**config.model_dump(exclude={"model_type"}), "num_hidden_layers": layer + 1}
    weights = cut(read_weights(source / WEIGHTS), ASTConfig(**kept), config.num_hidden_layers)
    section = {"layer": layer + 1, "pooling": pooling, "time_patch_stride": 1}
    written = {**ASTConfig(**kept).to_dict(), "architectures": ["ASTModel"], "tunelab": section}
    written.pop("_name_or_path", None)
    _write_json(bundle / CONFIG, written)
    _write_json(bundle / PREPROCESSOR, {**FRONT_END, "max_length": config.max_length})
    # Not `save_file`, whose files only their owner can read: the service may run as another user.
    (bundle / WEIGHTS).write_bytes(save(weights, metadata={"format": "pt"}))
    tokens = weights["embeddings.position_embeddings"].shape[1]
    card = _card(checkpoint, name, config, section, sum(value.numel() for value in weights.values()), tokens)
    card["source"]["sha256"] = sha256_of(source / WEIGHTS)
    _write_json(bundle / CARD, card)
    (bundle / "README.md").write_text(_markdown(card), encoding="utf-8")
    # The same checks that will be made whenever it is used.
    load_maest(Bundle.open(bundle))


def _card(
    checkpoint: Checkpoint,
    name: str,
    config: CheckpointConfig,
    section: Mapping[str, Any],
    parameters: int,
    tokens: int,
) -> dict[str, Any]:
    kept, blocks = section["layer"], config.num_hidden_layers
    again = f"tunelab models pull {checkpoint.repository} --revision {checkpoint.commit}"
    options = f" --layer {kept - 1} --pooling {section['pooling']}"
    return {
        "name": name,
        "version": checkpoint.commit[:12],
        "summary": f"The first {kept} of {blocks} blocks of MAEST, published as {checkpoint.repository}: "
        f"an embedding of {config.hidden_size} numbers for each track, and no heads yet.",
        "licence": checkpoint.licence,
        "source": {"repository": checkpoint.repository, "commit": checkpoint.commit, "file": WEIGHTS, "paper": PAPER},
        "changes": [
            f"{blocks - kept} of {blocks} blocks cut off: those after index {kept - 1}",
            "classifier cut off",
            "weights rounded to half precision",
        ],
        "encoder": {
            "parameters": parameters,
            "layers": kept,
            "width": config.hidden_size,
            "tokens": tokens,
            "embedding_size": config.hidden_size,
            "pooling": section["pooling"],
        },
        "heads": {},
        "limits": [
            f"Licence of the weights: {checkpoint.licence}" + (f" ({checkpoint.terms})." if checkpoint.terms else "."),
            "No heads: scores need heads trained for it (`tunelab train`).",
        ],
        "reproduce": [again + options],
    }


def _markdown(card: Mapping[str, Any]) -> str:
    source, encoder = card["source"], card["encoder"]
    lines = [
        f"# {card['name']}",
        "",
        card["summary"],
        "",
        f"- Source: https://huggingface.co/{source['repository']} at commit `{source['commit']}`,",
        f"  `{source['file']}` with SHA-256 `{source['sha256']}`.",
        f"- Paper: {source['paper']}",
        f"- Changes: {'; '.join(card['changes'])}.",
        f"- Embedding: {encoder['embedding_size']} numbers, pooling `{encoder['pooling']}`, read after block index "
        f"{encoder['layers'] - 1}, before the final norm.",
        *(f"- {limit}" for limit in card["limits"]),
        "",
        "To make it again:",
        "",
        *(f"    {command}" for command in card["reproduce"]),
    ]
    return "\n".join(lines) + "\n"


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
