"""The validation table: scores of real songs against what listeners said, next to vibenet's published row."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tunelab.evaluation.metrics import Metric, auc, interval, spearman
from tunelab.types import FloatArray

Table = Any
"""A pandas DataFrame: pandas belongs to the training extra and has no types here."""
Truth = Callable[[Table], npt.NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the table: which clips, which truth, which measure, and what vibenet 0.1.0 reaches on it."""

    head: str
    measure: str
    metric: Metric
    source: str
    truth: Truth
    vibenet: float


def _genres(positive: tuple[str, ...], negative: tuple[str, ...]) -> Truth:
    """1 for the first genres, 0 for the others, NaN (left out) elsewhere."""

    def truth(table: Table) -> npt.NDArray[np.float64]:
        first, second = table.genre.isin(positive), table.genre.isin(negative)
        return np.where(first, 1.0, np.where(second, 0.0, np.nan))

    return truth


def _sum(*terms: str) -> Truth:
    """Signed sum of columns, such as ``"+power", "-calmness"``."""

    def truth(table: Table) -> npt.NDArray[np.float64]:
        total = np.zeros(len(table))
        for term in terms:
            total += (1 if term[0] == "+" else -1) * table[term[1:]].to_numpy(np.float64)
        return total

    return truth


def _no_vocals(table: Table) -> npt.NDArray[np.float64]:
    return np.asarray(1.0 - table.vocals.to_numpy(np.float64))


ROWS: tuple[Row, ...] = (
    Row(
        "energy",
        "Spearman with power + joyful_activation + tension - calmness - tenderness",
        spearman,
        "emotify",
        _sum("+power", "+joyful_activation", "+tension", "-calmness", "-tenderness"),
        0.513,
    ),
    Row(
        "happiness",
        "Spearman with joyful_activation - sadness - tension",
        spearman,
        "emotify",
        _sum("+joyful_activation", "-sadness", "-tension"),
        0.425,
    ),
    Row("happiness", "Spearman with joyful_activation", spearman, "emotify", _sum("+joyful_activation"), 0.510),
    Row(
        "acousticness",
        "AUC classical vs electronic + rock",
        auc,
        "emotify",
        _genres(("classical",), ("electronic", "rock")),
        0.986,
    ),
    Row(
        "danceability",
        "AUC electronic + pop vs classical",
        auc,
        "emotify",
        _genres(("electronic", "pop"), ("classical",)),
        0.916,
    ),
    Row("instrumentalness", "AUC accompaniment vs with singing", auc, "mir1k", _no_vocals, 0.786),
)


@dataclass(frozen=True, slots=True)
class ListenerFigure:
    """One computed row: value with its 95 % interval over single clips."""

    head: str
    measure: str
    value: float
    ci95: tuple[float, float]
    n: int
    vibenet: float
    source: str


def read_labels(folder: Path) -> Table:
    """``labels.csv`` of a validation folder as a DataFrame; its column ``path`` is relative to the folder."""
    import pandas as pd

    return pd.read_csv(folder / "labels.csv")


def listener_figures(table: Table, scores: Mapping[str, FloatArray]) -> list[dict[str, Any]]:
    """Compute every row for which a head exists.

    Args:
        table: of :func:`read_labels`, ``n`` rows.
        scores: head -> shape ``(n,)``.
    """
    figures = []
    for row in ROWS:
        if row.head not in scores:
            continue
        chosen = (table.source == row.source).to_numpy()
        truth = row.truth(table[chosen])
        score = np.asarray(scores[row.head], np.float64)[chosen]
        known = np.isfinite(truth)
        score, truth = score[known], truth[known]
        low, high = interval(row.metric, score, truth)
        value = round(row.metric(score, truth), 4)
        ci95 = (round(low, 4), round(high, 4))
        figure = ListenerFigure(row.head, row.measure, value, ci95, len(score), row.vibenet, row.source)
        figures.append(asdict(figure) | {"ci95": list(ci95)})
    return figures
