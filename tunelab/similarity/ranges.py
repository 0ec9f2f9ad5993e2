"""Ranges of scores as people write them: ``60..100``, ``60..``, ``..40``."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Self

from tunelab.types import HEADS

_POINTS = "(100|[1-9]?[0-9])"
_FORM = re.compile(rf"{_POINTS}?\.\.{_POINTS}?")

PATTERN = rf"^({_POINTS}\.\.{_POINTS}?|\.\.{_POINTS})$"
"""Regular expression of the form, for schemas; that the bounds are in order is beyond it."""


@dataclass(frozen=True, slots=True)
class Range:
    """Scores from ``low`` to ``high`` as answers show them: integers in 0..100, both ends included."""

    low: int = 0
    high: int = 100

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``LOW..HIGH``; one of the two may be left out.

        Raises:
            ValueError: it has another form, a bound is not in 0..100, or they are not in order.
        """
        match = _FORM.fullmatch(text)
        if match is None or not any(match.groups()):
            raise ValueError("a range must look like 60..100, 60.. or ..40, with bounds from 0 to 100")
        low, high = match.groups()
        found = cls(int(low or 0), int(high or 100))
        if found.low > found.high:
            raise ValueError("the first bound of a range must not be above the second")
        return found

    @property
    def bounds(self) -> tuple[float, float]:
        """Exact scores, not rounded, that the range holds: at least the first value, below the second."""
        lower = _first(self.low) if self.low > 0 else -math.inf
        return lower, _first(self.high + 1) if self.high < 100 else math.inf


def parse_filter(text: str) -> tuple[str, Range]:
    """Read ``HEAD=LOW..HIGH``.

    Raises:
        ValueError: there is no such head, or the range is not one.
    """
    head, equals, wanted = text.partition("=")
    if not equals or head not in HEADS:
        raise ValueError(f"a filter must look like energy=60..100, with one of {', '.join(HEADS)}")
    return head, Range.parse(wanted)


def _first(points: int) -> float:
    """The smallest score that is shown as ``points`` or more, to the last bit: what is shown is what is filtered."""
    score = (points - 0.5) / 100
    while round(100 * score) >= points:
        score = math.nextafter(score, -math.inf)
    while round(100 * score) < points:
        score = math.nextafter(score, math.inf)
    return score
