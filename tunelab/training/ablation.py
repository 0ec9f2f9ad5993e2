"""Short runs that differ in one choice each, on equal time, judged on held-out packages: what pays, what does not."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from tunelab.evaluation.embedding import participation_ratio
from tunelab.evaluation.metrics import pearson
from tunelab.training.config import PretrainConfig
from tunelab.training.embed import embed_mels, load_student
from tunelab.training.heads import development_clips, train_head
from tunelab.training.kinds import KINDS, LAYERED
from tunelab.training.labels import Labeller
from tunelab.training.objectives import Objective
from tunelab.training.pretrain import pretrain
from tunelab.training.targets import KEY_COLUMNS, TAG_COLUMNS, Data, answers_of, load_clips, prepare
from tunelab.types import HEADS

FITTED = 1000
"""Training clips that the heads are fitted on, evenly spread."""
TIME_STRIDE = 4
"""Every fourth time patch is looked at, as in training."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One choice that differs from the plain run: what changes in the configuration, and which targets are left out."""

    about: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    voice: bool = True
    layers: bool = True
    musicnn: bool = True
    keys: bool = True


SMALL: dict[str, Any] = {"width": 256, "growth": ((0.0, 4),)}
"""Of all runs but those that compare shapes: the real shape would see too little in a few minutes of a CPU."""
VARIANTS: dict[str, Variant] = {
    "plain": Variant("256 wide, 4 blocks, mean of the patch tokens, Muon, both teachers, voice"),
    "adamw": Variant("AdamW in place of Muon", {"muon_lr": 0.0}),
    "cls": Variant("a class token as the embedding", {"pooling": "cls"}),
    "both": Variant("mean of the class token and the patch tokens' mean", {"pooling": "both"}),
    "384x6": Variant("384 wide, 6 blocks", {"width": 384, "growth": ((0.0, 6),)}),
    "768x2": Variant("768 wide, 2 blocks", {"width": 768, "growth": ((0.0, 2),)}),
    "768x6": Variant("768 wide, 6 blocks", {"width": 768, "growth": ((0.0, 6),)}),
    "no-voice": Variant("without clips of speech or singing", voice=False),
    "no-layers": Variant("without clips of two tracks at once", layers=False),
    "no-keys": Variant("without keys as targets", keys=False),
    "no-musicnn": Variant("without musicnn's tags as targets", musicnn=False),
    "masked": Variant("with unseen patches as a target", {"objective": Objective(masked=1.0)}),
    "contrast": Variant("with the contrast of two halves", {"objective": Objective(contrast=0.5)}),
    "ema": Variant("with averaged weights", {"ema": 0.98}),
    "unshifted": Variant("clips that begin where they do", {"objective": Objective(shifted=False)}),
}


def ablate(
    clips: Path, out: Path, minutes: float, names: tuple[str, ...] = tuple(VARIANTS)
) -> Iterator[dict[str, Any]]:
    """Run the variants that have no result in ``out`` yet, from nothing, ``minutes`` each.

    Args:
        clips: folder of rendered and tagged clips.
        out: a folder for each number of minutes and variant, with the run and ``ablation.json``.
        minutes: of each run.
        names: of :data:`VARIANTS`.

    Yields:
        For each variant its name, what it is, ``minutes``, ``clip_steps``, millions of ``parameters``, Pearson r with
        the labels of held-out packages for each head (``r``), their mean, and the participation ratio of held-out
        music's embeddings.

    Raises:
        KeyError: there is no such variant.
        SettingsError: some clips have no tags.
    """
    chosen = {name: VARIANTS[name] for name in names}
    data: Data | None = None
    train, heldout = load_clips(clips, "train"), load_clips(clips, "heldout")
    answers_of(train), answers_of(heldout)  # told before the first run, not after it
    for name, variant in chosen.items():
        folder = out / f"{minutes:g} min" / name
        result = folder / "ablation.json"
        if not result.exists():
            data = data or prepare(train)
            config = replace(PretrainConfig(minutes=minutes), **{**SMALL, **variant.changes})
            run = pretrain(clips, folder, config, _targets(data, train, variant))
            row = {"name": name, "about": variant.about, "minutes": minutes, "clip_steps": run["clip_steps"]}
            row |= judge(folder, train, heldout)
            result.write_text(json.dumps(row, indent=2) + "\n")
        yield json.loads(result.read_text())


def _targets(data: Data, clips: Mapping[str, Any], variant: Variant) -> Data:
    chosen = np.ones(len(data.mels), bool)
    if not variant.voice:
        chosen &= ~_has_voice(clips)
    if not variant.layers:
        chosen &= clips["known"][:, 0] != KINDS[LAYERED]
    kept = data.only(chosen)
    if not variant.keys:
        kept.dense[:, :, KEY_COLUMNS] = float("nan")
    if not variant.musicnn:
        kept.dense[:, :, TAG_COLUMNS] = float("nan")
        # The labels of the heads were made from them, too.
        kept.scores[:, -len(HEADS) :] = float("nan")
    return kept


def _has_voice(clips: Mapping[str, Any]) -> np.ndarray[Any, np.dtype[np.bool_]]:
    voice: np.ndarray[Any, np.dtype[np.bool_]] = clips["known"][:, 2] > 0
    return voice


def judge(run: Path, train: Mapping[str, Any], heldout: Mapping[str, Any]) -> dict[str, Any]:
    """Fit heads on a finished run's embeddings and compare them with the labels of held-out clips."""
    facts = json.loads((run / "run.json").read_text())
    student = load_student(run)
    spread = np.linspace(0, len(train["mel"]) - 1, min(FITTED, len(train["mel"]))).astype(int)
    fitted = embed_mels(student, train["mel"][spread], facts["mean"], facts["std"], TIME_STRIDE)
    judged = embed_mels(student, heldout["mel"], facts["mean"], facts["std"], TIME_STRIDE)
    answers = answers_of(train)
    labeller = Labeller.measure(*answers)
    labels = labeller(*(values[spread] for values in answers))
    truth = labeller(*answers_of(heldout))
    development = development_clips(train["known"][spread])
    r = {}
    for head in HEADS:
        parts = [(fitted[chosen], labels[head][chosen]) for chosen in (~development, development)]
        r[head] = round(pearson(train_head(head, parts[0], parts[1], judged).heldout, truth[head]), 3)
    return {
        "parameters": round(sum(weight.numel() for weight in student.ast.parameters()) / 1e6, 1),
        "r": r,
        "mean_r": round(float(np.mean(list(r.values()))), 3),
        "participation_ratio": round(participation_ratio(judged[~_has_voice(heldout)]), 1),
    }


def table(rows: list[dict[str, Any]]) -> str:
    """The rows of :func:`ablate` as a Markdown table."""
    heads = list(HEADS)
    lines = [
        f"| run | million weights | clip-steps | mean r | {' | '.join(heads)} | effective dimensions |",
        "|" + "---|" * (len(heads) + 5),
    ]
    for row in rows:
        values = " | ".join(f"{row['r'][head]:.3f}" for head in heads)
        lines.append(
            f"| {row['about']} | {row['parameters']:.1f} | {row['clip_steps']:,} | {row['mean_r']:.3f} | {values} | "
            f"{row['participation_ratio']:.1f} |"
        )
    return "\n".join(lines)
