"""Ranges of scores: what is read, what is refused, and that they hold exactly what answers show."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunelab.similarity.ranges import PATTERN, Range, parse_filter
from tunelab.types import percent

points = st.integers(0, 100)


@given(points, points)
def test_both_bounds(one: int, other: int) -> None:
    low, high = sorted((one, other))
    assert Range.parse(f"{low}..{high}") == Range(low, high)
    if low < high:
        with pytest.raises(ValueError, match="above the second"):
            Range.parse(f"{high}..{low}")


@given(points)
def test_one_bound(bound: int) -> None:
    assert Range.parse(f"{bound}..") == Range(bound, 100)
    assert Range.parse(f"..{bound}") == Range(0, bound)


@given(st.one_of(st.text(max_size=12), st.from_regex(r"\A-?[0-9]{0,4}\.{0,3}-?[0-9]{0,4}\Z")))
def test_anything_else_is_refused_as_the_pattern_says(text: str) -> None:
    fits = re.fullmatch(PATTERN, text) is not None
    try:
        found = Range.parse(text)
    except ValueError as error:
        # Only the order of the bounds is beyond the pattern.
        refusal = str(error)
    else:
        refusal = ""
        assert 0 <= found.low <= found.high <= 100
    assert fits == (refusal == "" or "above the second" in refusal)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "..",
        "60",
        "60.100",
        "60...100",
        "060..100",
        "60..101",
        "-1..5",
        "1e1..50",
        "60..100\n",
        " 60..",
        "٦٠..",
        "5.5..",
    ],
)
def test_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must look like"):
        Range.parse(text)


def inside(score: float, wanted: Range) -> bool:
    lower, upper = wanted.bounds
    return lower <= score < upper


@given(st.floats(0, 1), points, points)
def test_holds_exactly_the_scores_that_are_shown_in_it(score: float, one: int, other: int) -> None:
    wanted = Range(*sorted((one, other)))
    shown = percent({"energy": score})["energy"]
    assert inside(score, wanted) == (wanted.low <= shown <= wanted.high)


@pytest.mark.parametrize("low", range(101))
def test_holds_them_at_the_edges_of_rounding(low: int) -> None:
    wanted = Range(low, low)
    for edge in (low - 0.5, low + 0.5):
        middle = edge / 100
        near = [middle]
        for direction in (-math.inf, math.inf):
            score = middle
            for _ in range(8):
                score = math.nextafter(score, direction)
                near.append(score)
        for score in near:
            if 0 <= score <= 1:
                assert inside(score, wanted) == (percent({"energy": score})["energy"] == low), score


def test_filters() -> None:
    assert parse_filter("energy=60..100") == ("energy", Range(60, 100))
    assert parse_filter("speechiness=..20") == ("speechiness", Range(0, 20))
    for text in ("energy", "energy=", "tempo=60..100", "=60..100", "energy==60..", "energy=70..60", "Energy=1..2"):
        with pytest.raises(ValueError, match=r"must look like|above the second"):
            parse_filter(text)
