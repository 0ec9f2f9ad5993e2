"""Statistics of repeated measurements."""

from __future__ import annotations

import pytest

from benchmarks.stats import Summary, percentile, rate


def test_summary_of_an_odd_and_an_even_number_of_values() -> None:
    assert Summary.of([3.0, 1.0, 20.0]) == Summary(median=3.0, min=1.0, max=20.0, count=3)
    assert Summary.of([4.0, 1.0]).median == 2.5


def test_summary_is_shown_with_three_digits() -> None:
    assert str(Summary.of([1.234, 12.34, 1234.4])) == "12.3 (1.23 .. 1234)"


def test_percentiles_are_interpolated() -> None:
    assert percentile([10.0, 0.0], 50) == 5.0
    assert percentile(list(range(101)), 95) == 95.0


def test_rate_counts_only_what_falls_into_the_interval() -> None:
    assert rate([1.0, 2.0, 2.5, 4.0, 4.1], begin=1.0, end=4.0) == 1.0  # 2.0, 2.5 and 4.0


def test_nothing_measured_is_an_error_and_not_a_number() -> None:
    with pytest.raises(ValueError, match="nothing was measured"):
        Summary.of([])
    with pytest.raises(ValueError, match="nothing was measured"):
        percentile([], 50)
    with pytest.raises(ValueError, match="interval"):
        rate([1.0], begin=2.0, end=2.0)
