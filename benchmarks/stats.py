"""Numbers about repeated measurements."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np


@dataclass(frozen=True, slots=True)
class Summary:
    """Median, smallest and largest of repeated measurements, in their own unit."""

    median: float
    min: float
    max: float
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Self:
        """Summarise at least one value.

        Raises:
            ValueError: there is none.
        """
        if not values:
            raise ValueError("nothing was measured")
        return cls(statistics.median(values), min(values), max(values), len(values))

    def __str__(self) -> str:
        return f"{_digits(self.median)} ({_digits(self.min)} .. {_digits(self.max)})"


def percentile(values: Sequence[float], percent: float) -> float:
    """Linearly interpolated percentile, 0..100.

    Raises:
        ValueError: there is no value.
    """
    if not values:
        raise ValueError("nothing was measured")
    return float(np.percentile(values, percent))


def rate(ends: Sequence[float], begin: float, end: float) -> float:
    """Events a second among those that happened in ``begin < t <= end``.

    Raises:
        ValueError: the interval is empty.
    """
    if end <= begin:
        raise ValueError("the interval must not be empty")
    return sum(begin < at <= end for at in ends) / (end - begin)


def _digits(value: float) -> str:
    """Three significant digits, but never fewer than the integer part has."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
