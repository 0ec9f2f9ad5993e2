"""The validation table: scores of real songs against what listeners said, next to vibenet's published row."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tunelab.errors import SettingsError
from tunelab.evaluation.metrics import AGREEMENT, Metric, auc, pearson, spearman, with_intervals
from tunelab.types import FloatArray

Table = Any
"""A pandas DataFrame: pandas belongs to the training extra and has no types here."""
Truth = Callable[[Table], npt.NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the table: which clips, which truth, which measure, and what vibenet 0.1.0 reaches on it.

    ``same_scale``: the truth lies in 0..1 as the score does, so that its values can be compared and not only its order.
    """

    head: str
    measure: str
    metric: Metric
    source: str
    truth: Truth
    vibenet: float
    same_scale: bool = False

    @property
    def metrics(self) -> Mapping[str, Metric]:
        """All measures that make sense for this truth, the row's own first."""
        if self.metric is auc:
            return {"auc": auc}
        return {"spearman": spearman, **(AGREEMENT if self.same_scale else {"pearson_r": pearson})}


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
    Row(
        "happiness",
        "Spearman with joyful_activation",
        spearman,
        "emotify",
        _sum("+joyful_activation"),
        0.510,
        same_scale=True,
    ),
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
class Sample:
    """The clips of one row.

    Attributes:
        row: what they are measured by.
        score: shape ``(n,)``, 0..1.
        truth: shape ``(n,)``, in the row's own unit.
        groups: shape ``(n,)``; clips of one singer are one group, songs are each their own.
        names: shape ``(n,)``: the genre, or an empty string.
    """

    row: Row
    score: npt.NDArray[np.float64]
    truth: npt.NDArray[np.float64]
    groups: npt.NDArray[Any]
    names: npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class ListenerFigure:
    """One computed row: value with its 95 % interval over ``groups`` groups of ``n`` clips, and its other measures."""

    head: str
    measure: str
    value: float
    ci95: list[float]
    n: int
    groups: int
    vibenet: float
    source: str
    measures: dict[str, dict[str, Any]]


def read_labels(folder: Path) -> Table:
    """``labels.csv`` of a validation folder as a DataFrame; its column ``path`` is relative to the folder.

    Raises:
        SettingsError: there is none.
    """
    import pandas as pd

    table = folder / "labels.csv"
    if not table.is_file():
        raise SettingsError(f"{folder.name} has no labels.csv: docs/training.md says what a validation folder holds")
    return pd.read_csv(table)


def groups_of(table: Table) -> npt.NDArray[Any]:
    """For each clip, what is drawn as a whole for an interval: the singer where the file's name tells one."""
    singers = table.path.str.extract(r"(mir1k-[^_/]+)_[^/]*$")[0]
    return np.asarray(singers.fillna(table.path), dtype=str)


def samples(table: Table, scores: Mapping[str, FloatArray]) -> Iterator[Sample]:
    """The clips of every row for which a head, and at least two clips, exist.

    Args:
        table: of :func:`read_labels`, ``n`` rows.
        scores: head -> shape ``(n,)``.
    """
    for row in ROWS:
        if row.head not in scores:
            continue
        chosen = (table.source == row.source).to_numpy()
        part = table[chosen]
        truth = row.truth(part)
        known = np.isfinite(truth)
        if known.sum() < 2:
            continue
        score = np.asarray(scores[row.head], np.float64)[chosen]
        names = part.genre.fillna("").to_numpy(str)
        yield Sample(row, score[known], truth[known], groups_of(part)[known], names[known])


def listener_figures(table: Table, scores: Mapping[str, FloatArray]) -> list[dict[str, Any]]:
    """Compute every row for which a head and clips exist; the arguments are those of :func:`samples`."""
    figures = []
    for sample in samples(table, scores):
        row = sample.row
        measures = with_intervals(row.metrics, sample.score, sample.truth, sample.groups)
        own = next(iter(measures.values()))
        figure = ListenerFigure(
            head=row.head,
            measure=row.measure,
            value=own["value"],
            ci95=own["ci95"],
            n=len(sample.score),
            groups=len(np.unique(sample.groups)),
            vibenet=row.vibenet,
            source=row.source,
            measures=measures,
        )
        figures.append(asdict(figure))
    return figures


def means_by_kind(table: Table, scores: Mapping[str, FloatArray]) -> dict[str, dict[str, float]]:
    """Mean scores in points, 0 to 100, of each genre, and of accompaniment without and with singing.

    The arguments are those of :func:`samples`.

    Returns:
        kind -> ``{"n": clips, head: points, ..}``, kinds in the order of their first clips.
    """
    kinds = table.genre.copy()
    if "vocals" in table:
        kinds = kinds.fillna(table.vocals.map({0: "accompaniment", 1: "with singing"}))
    means = {}
    for kind in dict.fromkeys(kinds.dropna()):
        chosen = (kinds == kind).to_numpy()
        points = {head: round(100 * float(np.mean(values[chosen])), 1) for head, values in scores.items()}
        means[str(kind)] = {"n": int(chosen.sum()), **points}
    return means
