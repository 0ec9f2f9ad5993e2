"""``python -m benchmarks.labels_on_songs CORPUS --validation FOLDER``: what the heads' labels say of real songs.

An encoder that followed its teachers exactly would reach the row of the labels: what a bundle lacks to that is the
encoder's, what the labels lack is theirs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer

from benchmarks.report import Report
from tunelab.evaluation.listeners import Table, read_labels, samples
from tunelab.evaluation.scoring import middle, read_song
from tunelab.training.genres import expected
from tunelab.training.labels import SCORE_COLUMN, Labeller, axis
from tunelab.training.musicnn import Musicnn
from tunelab.training.targets import ANSWERS, answers_of, load_clips
from tunelab.training.teachers import Vibenet
from tunelab.training.voice import SAMPLE_RATE
from tunelab.types import HEADS, FloatArray

SIZE = 30 * SAMPLE_RATE
"""Samples of a song that are looked at."""


def heard(folder: Path, table: Table) -> tuple[FloatArray, FloatArray]:
    """The teachers' answers for the songs of a validation folder, in the order of ``table``.

    A song is cut to its middle 30 s, or repeated until it has as many, as for a bundle's scores.

    Returns:
        vibenet's scores ``(n, 7)``, and musicnn's mean tag logits ``(n, 100)``.
    """
    # One thread for each of both, which is what vibenet has: they take turns.
    torch.set_num_threads(1)
    vibenet, musicnn = Vibenet(), Musicnn()
    scores, tags = [], []
    for path in table.path:
        window = middle(read_song(folder / path, SAMPLE_RATE), SIZE)
        scores.append(vibenet(window).scores)
        tags.append(musicnn(window).mean(0))
    return np.stack(scores), np.stack(tags)


def answers(labeller: Labeller, scores: FloatArray, tags: FloatArray) -> dict[str, dict[str, FloatArray]]:
    """Source -> head -> what it says of music alone, shape ``(n,)``; the arguments are those of the labeller."""
    standard = (tags - labeller.tag_mean) / labeller.tag_std
    known = np.zeros((len(scores), 4), np.float32)
    return {
        "labels": labeller(scores, tags, known),
        "vibenet": {head: scores[:, SCORE_COLUMN[head]] for head in HEADS},
        "axis of tags": {head: axis(standard, head) for head in HEADS},
        "genres": {head: expected(standard, head) for head in HEADS},
    }


def main(
    corpus: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="A corpus whose clips have tags.")],
    validation: Annotated[Path, typer.Option(exists=True, file_okay=False, help="A folder with labels.csv.")],
) -> None:
    """Print the listeners' rows for the labels and for what they are made from."""
    table = read_labels(validation)
    labeller = Labeller.measure(*answers_of(load_clips(corpus / "clips", "train", ANSWERS)))
    sources = answers(labeller, *heard(validation, table))
    columns = {name: list(samples(table, by_head)) for name, by_head in sources.items()}
    rows = []
    for number, sample in enumerate(columns["labels"]):
        values = (sample.row.metric(found[number].score, found[number].truth) for found in columns.values())
        rows.append([sample.row.head, sample.row.measure, *(f"{value:.3f}" for value in values)])
    Report().section(f"Listeners' rows, {len(table)} songs", ["head", "measure", *columns], rows)


if __name__ == "__main__":
    typer.run(main)
