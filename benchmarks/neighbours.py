"""``python -m benchmarks.neighbours OUT --labels labels.csv``: whether similar tracks share a label (their genre)."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import typer

from benchmarks.report import Report
from tunelab.catalog.rows import open_rows
from tunelab.similarity.vectors import cosines, embeddings

_REPEATS = 2000
"""Bootstrap samples of the tracks."""


def read_labels(path: Path, column: str) -> dict[str, str]:
    """File name -> label, of the rows that have one; the name is that of the column ``path``, without folders.

    Raises:
        ValueError: there is no such column, or no label in it.
    """
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file)
        if not {"path", column} <= set(rows.fieldnames or ()):
            raise ValueError(f"the labels need the columns 'path' and {column!r}")
        found = {Path(row["path"]).name: row[column] for row in rows if row[column]}
    if not found:
        raise ValueError(f"there is no label in the column {column!r}")
    return found


def agreement(vectors: npt.NDArray[np.float32], labels: npt.NDArray[np.str_], k: int) -> npt.NDArray[np.float64]:
    """For each track, the share of its ``k`` nearest others that have its label, shape ``(n,)``."""
    found = np.empty(len(vectors))
    for place, vector in enumerate(vectors):
        near = cosines(vectors, vector)
        near[place] = -np.inf
        found[place] = np.mean(labels[np.argsort(-near)[:k]] == labels[place])
    return found


def interval(values: npt.NDArray[np.float64]) -> str:
    """Mean in percent with its 95 % bootstrap interval."""
    rng = np.random.default_rng(0)
    means = [values[rng.integers(0, len(values), len(values))].mean() for _ in range(_REPEATS)]
    low, high = np.percentile(means, [2.5, 97.5])
    return f"{100 * values.mean():.1f} % ({100 * low:.1f} .. {100 * high:.1f})"


def main(
    folder: Annotated[str, typer.Argument(metavar="OUT", help="Output folder of a batch job.")],
    labels: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="CSV with `path` and a label.")],
    column: Annotated[str, typer.Option(help="Column of the label.")] = "genre",
    k: Annotated[int, typer.Option("-k", min=1, max=1000, help="Neighbours.")] = 10,
) -> None:
    """Print how many of a track's nearest others have its label, as embeddings are and with their mean taken away."""
    try:
        known = read_labels(labels, column)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    names: list[str] = []
    parts: list[npt.NDArray[np.float32]] = []
    for batch in open_rows(folder, ("path", "embedding")):
        names += [Path(path).name for path in batch["path"].to_pylist()]
        parts.append(embeddings(batch["embedding"]).astype(np.float32))
    chosen = [place for place, name in enumerate(names) if name in known]
    if len(chosen) <= k:
        raise typer.BadParameter(f"only {len(chosen)} tracks have a label")
    vectors = np.concatenate(parts)[chosen]
    own = np.array([known[names[place]] for place in chosen])
    plain = agreement(vectors, own, k)
    centred = agreement(vectors - vectors.mean(axis=0), own, k)
    counts = {str(label): int(np.sum(own == label)) for label in np.unique(own)}
    chance = float(np.mean([(counts[str(label)] - 1) / (len(own) - 1) for label in own]))
    report = Report()
    report.section(
        f"Of the {k} nearest of each of {len(own)} tracks, how many share its {column} (95 % interval)",
        ["tracks", "embeddings as they are", "their mean taken away"],
        [
            [f"{label} ({count})", *(f"{100 * values[own == label].mean():.1f} %" for values in (plain, centred))]
            for label, count in counts.items()
        ]
        + [["all", interval(plain), interval(centred)]],
        f"By chance {100 * chance:.1f} %. Taking the mean away changes the share by {interval(centred - plain)}.",
    )


if __name__ == "__main__":
    typer.run(main)
