"""Whether scores mean what they say: predictions against labels on held-out clips, over all of them and in bins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tunelab.encoder.bundle import Bundle
from tunelab.errors import BundleError
from tunelab.evaluation.card import groups_of
from tunelab.evaluation.metrics import AGREEMENT, with_intervals
from tunelab.types import FloatArray

EMBEDDINGS = "embeddings.safetensors"
BINS = 10


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Held-out clips of one head.

    Attributes:
        score: predictions, shape ``(n,)``, 0..1.
        label: what the head was to say, shape ``(n,)``, 0..1.
        groups: shape ``(n,)``; drawn as wholes for intervals.
    """

    score: FloatArray
    label: FloatArray
    groups: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Bin:
    """Clips of similar scores: their number and groups, mean score, mean label and its 95 % interval."""

    n: int
    groups: int
    score: float
    label: float
    low: float
    high: float


def held_out(bundle: Bundle, run: Path) -> dict[str, HeldOut]:
    """What the bundle's heads say about a run's held-out clips, and the labels that their training clips define.

    Args:
        bundle: made from this run.
        run: a folder with ``embeddings.safetensors``.

    Raises:
        BundleError: the run has no embeddings, or their width is not that of the heads.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    from tunelab.heads.mlp import load_heads
    from tunelab.training.labels import Labeller

    try:
        arrays = load_file(run / EMBEDDINGS)
    except (OSError, SafetensorError) as error:
        raise BundleError(f"{run.name} has no readable {EMBEDDINGS}: finish the run first") from error
    heads = load_heads(bundle)
    if arrays["heldout"].shape[1] != heads.width:
        raise BundleError(f"{run.name} has embeddings of {arrays['heldout'].shape[1]} numbers, not {heads.width}")
    train, held = (
        (arrays[f"{split}_scores"], arrays[f"{split}_tags"], arrays[f"{split}_known"]) for split in ("train", "heldout")
    )
    labels = Labeller.measure(*train)(*held)
    rows = [heads(embedding) for embedding in arrays["heldout"]]
    groups = groups_of(held[2])
    return {
        head: HeldOut(np.array([row[head] for row in rows], np.float32), labels[head], groups) for head in heads.names
    }


def held_out_figures(clips: Mapping[str, HeldOut]) -> list[dict[str, Any]]:
    """Pearson r, Spearman, CCC and RMSE of every head, with 95 % intervals over groups, and its bins."""
    return [
        {
            "head": head,
            "n": len(held.score),
            "groups": len(np.unique(held.groups)),
            "measures": with_intervals(AGREEMENT, held.score, held.label, held.groups),
            "bins": [
                {"n": part.n, "groups": part.groups}
                | {name: round(getattr(part, name), 4) for name in ("score", "label", "low", "high")}
                for part in reliability(held)
            ],
        }
        for head, held in clips.items()
    ]


def reliability(held: HeldOut, bins: int = BINS, *, draws: int = 1000, seed: int = 0) -> list[Bin]:
    """Mean label for scores of about the same value; the same for the same seed.

    Bins hold about as many clips each. Fewer come out where many scores are equal. The interval of a bin that has only
    one group is undefined, so NaN.
    """
    score, label = np.asarray(held.score, np.float64), np.asarray(held.label, np.float64)
    edges = np.unique(np.quantile(score, np.linspace(0, 1, bins + 1)))
    places = np.searchsorted(edges[1:-1], score)
    names, members = np.unique(held.groups, return_inverse=True)
    count = max(len(edges) - 1, 1)
    # Sums of each group in each bin: a resample of whole groups is then a product with how often each was drawn.
    clips, labels = np.zeros((len(names), count)), np.zeros((len(names), count))
    np.add.at(clips, (members, places), 1)
    np.add.at(labels, (members, places), label)
    drawn = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), size=draws)
    with np.errstate(invalid="ignore"):
        means = (drawn @ labels) / (drawn @ clips)
    result = []
    for number in range(count):
        inside = places == number
        if not inside.any():
            continue
        groups = int((clips[:, number] > 0).sum())
        low, high = np.nanpercentile(means[:, number], [2.5, 97.5]) if groups > 1 else (np.nan, np.nan)
        result.append(
            Bin(
                n=int(inside.sum()),
                groups=groups,
                score=float(score[inside].mean()),
                label=float(label[inside].mean()),
                low=float(low),
                high=float(high),
            )
        )
    return result
