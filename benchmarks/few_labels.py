"""``python -m benchmarks.few_labels RUN``: how well heads agree with held-out labels, by how many they learnt from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from benchmarks.report import Report
from tunelab.errors import SettingsError
from tunelab.evaluation.metrics import pearson
from tunelab.training.embed import load_embeddings
from tunelab.training.heads import train_head
from tunelab.training.labels import Labeller
from tunelab.types import HEADS, FloatArray

DEVELOPMENT, LEAST = 6, 10
"""One label in so many chooses the epoch, and at least so many do."""


def agreement(
    head: str, known: tuple[FloatArray, FloatArray], heldout: tuple[FloatArray, FloatArray], count: int, draws: int
) -> float:
    """Mean Pearson r with held-out labels, over ``draws`` heads that each learnt from ``count`` labels drawn at random.

    Args:
        head: decides the loss.
        known: embeddings ``(n, 768)`` and labels ``(n,)``, 0..1.
        heldout: the same.
        count: at most ``n``.
        draws: of different labels each, as far as there are so many.
    """
    found = []
    for draw in range(draws):
        chosen = np.random.default_rng([draw, count]).permutation(len(known[0]))[:count]
        left = max(LEAST, count // DEVELOPMENT)
        parts = [(known[0][part], known[1][part]) for part in (chosen[left:], chosen[:left])]
        found.append(pearson(train_head(head, parts[0], parts[1], heldout[0]).heldout, heldout[1]))
    return float(np.mean(found))


def main(
    run: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="A run with embeddings.")],
    counts: Annotated[str, typer.Option(help="Numbers of labels, comma-separated.")] = "60,150,400,1000,2000",
    draws: Annotated[int, typer.Option(min=1, help="Heads for each number.")] = 3,
) -> None:
    """Print Pearson r of each head for each number of labels; ``tunelab pretrain`` and ``refit`` leave such runs."""
    arrays = load_embeddings(run)
    labeller = Labeller.measure(arrays["train_scores"], arrays["train_tags"], arrays["train_known"])
    known, truth = (
        labeller(*(arrays[f"{split}_{name}"] for name in ("scores", "tags", "known"))) for split in ("train", "heldout")
    )
    numbers, rows = [int(count) for count in counts.split(",")], []
    if not 2 * LEAST < min(numbers) <= max(numbers) <= len(arrays["train"]):
        raise SettingsError(f"there are {len(arrays['train'])} labels, and a head takes more than {2 * LEAST}")
    for count in numbers:
        found = [
            agreement(head, (arrays["train"], known[head]), (arrays["heldout"], truth[head]), count, draws)
            for head in HEADS
        ]
        rows.append([str(count), *(f"{r:.3f}" for r in (*found, float(np.mean(found))))])
    Report().section(
        f"Pearson r of heads with the labels of {len(arrays['heldout'])} held-out clips, by the labels that they had",
        ["labels", *HEADS, "mean"],
        rows,
        f"Means of {draws} draws of labels among those of {len(arrays['train'])} clips of other packages.",
    )


if __name__ == "__main__":
    typer.run(main)
