"""The spread that users know: how the six Echo Nest features lie on ordinary music, and maps onto it.

``echonest_scale.csv`` holds the percentiles of the features of 8,000 tracks of the Free Music Archive (``echonest.csv``
of the FMA dataset, Defferrard et al., ISMIR 2017, CC BY 4.0); :func:`measure_scale` made it.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from statistics import NormalDist
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from tunelab.training.datasets import COLUMN
from tunelab.types import HEADS, FloatArray

AnyFloat = TypeVar("AnyFloat", bound=np.floating[Any])

SCALE_FILE = "echonest_scale.csv"
PERCENTILES = np.arange(101)
MUSIC_SHARE = {"speechiness": 0.88}
"""Share of the scale that music without spoken word fills, from its lower end; all of it for other heads. Of the FMA
tracks 88 % have a speechiness below 0.21; what is above is rap and talk."""

MIDDLE = slice(12, 89)
"""Percentiles that the line of :func:`label_scale` goes through."""
HALF_A_POINT = 0.005
LEAST = 1e-4
"""How near labels come to 0 and 1."""


def measure_scale(features: Path, out: Path) -> None:
    """Write the percentiles of a table of Echo Nest features.

    Args:
        features: a CSV with one header row and a column for each feature, values in 0..1 or empty.
        out: the table to write: one column a head, one row a percentile from 0 to 100.
    """
    with features.open(newline="") as file:
        rows = list(csv.DictReader(file))
    columns = []
    for head in HEADS:
        name = COLUMN.get(head, head)
        columns.append(np.percentile([float(row[name]) for row in rows if row[name]], PERCENTILES))
    with out.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(HEADS)
        writer.writerows([[f"{value:.4f}" for value in row] for row in np.stack(columns, 1)])


@cache
def load_scale() -> Mapping[str, npt.NDArray[np.float64]]:
    """Percentiles 0, 1 .. 100 of each head, shape ``(101,)``, values in 0..1."""
    text = resources.files("tunelab.training").joinpath(SCALE_FILE).read_text()
    table = np.loadtxt(text.splitlines(), delimiter=",", skiprows=1)
    return {head: table[:, column] for column, head in enumerate(HEADS)}


@cache
def label_scale() -> Mapping[str, npt.NDArray[np.float64]]:
    """:func:`load_scale` with its ends drawn out, so that labels there can be told apart.

    Published values pile up: a tenth of the tracks has an acousticness of .993 to .996. Beyond the middle, values
    follow the line of their logits over normal scores as far as half a point of 100 allows.
    """
    normal = np.array([NormalDist().inv_cdf((place + 0.5) / len(PERCENTILES)) for place in PERCENTILES])
    scales = {}
    for head, table in load_scale().items():
        logits = logit(table)
        slope = np.polyfit(normal[MIDDLE], logits[MIDDLE], 1)[0]
        line = logits.copy()
        for end, side in ((MIDDLE.start, slice(None, MIDDLE.start)), (MIDDLE.stop - 1, slice(MIDDLE.stop, None))):
            line[side] = logits[end] + slope * (normal[side] - normal[end])
        drawn_out = 1 / (1 + np.exp(-line))
        scales[head] = np.maximum.accumulate(np.clip(drawn_out, table - HALF_A_POINT, table + HALF_A_POINT))
    return scales


def logit(values: npt.NDArray[AnyFloat]) -> npt.NDArray[AnyFloat]:
    """Logits of values in 0..1, those nearer than :data:`LEAST` to an end as if they were that near."""
    inside = values.clip(LEAST, 1 - LEAST)
    logits: npt.NDArray[AnyFloat] = np.log(inside / (1 - inside))
    return logits


def percentiles(values: FloatArray) -> npt.NDArray[np.float64]:
    """Percentiles 0, 1 .. 100 of ``values``, strictly rising, so that a map from them is monotone."""
    raised = np.percentile(values.astype(np.float64), PERCENTILES) + 1e-9 * PERCENTILES
    return np.asarray(np.maximum.accumulate(raised))


def onto_scale(head: str, values: FloatArray, reference: npt.NDArray[np.float64]) -> FloatArray:
    """Map values so that those of ordinary music spread as the head's Echo Nest feature does; ranks stay.

    Args:
        head: one of :data:`tunelab.types.HEADS`.
        values: shape ``(n,)``.
        reference: :func:`percentiles` of the values of ordinary music.
    """
    share = MUSIC_SHARE.get(head, 1.0)
    targets = np.interp(share * PERCENTILES, PERCENTILES, label_scale()[head])
    mapped: FloatArray = np.interp(values, reference, targets).astype(np.float32)
    return mapped
