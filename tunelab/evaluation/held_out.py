"""Bundles against each other on the same held-out clips: whether a new one follows the labels better than the last."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tunelab.encoder import load_engine
from tunelab.encoder.bundle import Bundle
from tunelab.evaluation.metrics import pearson
from tunelab.heads.mlp import load_heads
from tunelab.training.clips import decibels_of
from tunelab.training.labels import Labeller
from tunelab.training.targets import ANSWERS, answers_of, load_clips
from tunelab.types import HEADS, FloatArray


def compare_bundles(clips: Path, bundles: Sequence[Path]) -> list[dict[str, Any]]:
    """Pearson r of each bundle's scores with the labels of all held-out clips, and of those of music alone.

    Scores are those that are served (8-bit integers where the CPU has them); labels are measured on the training clips.

    Args:
        clips: folder of rendered and tagged clips.
        bundles: folders.

    Returns:
        For each bundle ``name``, ``version``, ``n``, ``n_music``, and by head ``r`` and ``r_music``.

    Raises:
        SettingsError: some clips have no tags.
        BundleError: a bundle cannot be used.
    """
    held, train = load_clips(clips, "heldout", ("mel", *ANSWERS)), load_clips(clips, "train", ANSWERS)
    labels = Labeller.measure(*answers_of(train))(*answers_of(held))
    mels, music = held["mel"], held["known"][:, 0] == 0
    rows = []
    for path in bundles:
        bundle = Bundle.open(path)
        scores = _scores(bundle, mels)
        rows.append(
            {
                "name": bundle.name,
                "version": str(bundle.card.get("version", "?")),
                "n": len(mels),
                "n_music": int(music.sum()),
                "r": {head: round(pearson(scores[head], labels[head]), 3) for head in scores},
                "r_music": {head: round(pearson(scores[head][music], labels[head][music]), 3) for head in scores},
            }
        )
    return rows


def _scores(bundle: Bundle, mels: npt.NDArray[np.uint8]) -> dict[str, FloatArray]:
    encode, heads = load_engine(bundle), load_heads(bundle)
    mean, std = np.float32(bundle.mel.mean), np.float32(bundle.mel.std)
    scores: dict[str, list[float]] = {head: [] for head in HEADS if head in heads.names}
    for quantised in mels:
        answer = heads(encode(((decibels_of(quantised) - mean) / std)[None])[0])
        for head, values in scores.items():
            values.append(answer[head])
    return {head: np.array(values, np.float32) for head, values in scores.items()}


def table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Markdown rows: bundle, then r over all clips / over music alone for each head."""
    heads = [head for head in HEADS if all(head in row["r"] for row in rows)]
    lines = [f"| bundle | {' | '.join(heads)} |", "|---" * (1 + len(heads)) + "|"]
    for row in rows:
        cells = [f"{row['r'][head]:.3f} / {row['r_music'][head]:.3f}" for head in heads]
        lines.append(f"| {row['name']} {row['version']} | {' | '.join(cells)} |")
    return lines
