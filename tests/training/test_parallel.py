"""Things worked on at once: in order, some side by side, and none begun after a failure."""

import threading
import time

import pytest

from tunelab.training.parallel import parallel_map


def test_results_come_in_the_order_of_the_things() -> None:
    def slow_first(number: int) -> int:
        time.sleep(0.05 if number == 0 else 0)
        return number * number

    assert list(parallel_map(slow_first, range(5), 3)) == [0, 1, 4, 9, 16]
    assert list(parallel_map(slow_first, [])) == []


def test_workers_run_side_by_side() -> None:
    together = threading.Barrier(3, timeout=30)
    # Each waits for the other two: one after another, they would wait for ever.
    assert sorted(parallel_map(lambda _: together.wait(), range(3), 3)) == [0, 1, 2]


def test_a_failure_is_raised_in_its_place_and_ends_what_has_not_begun() -> None:
    begun: list[int] = []

    def fail(number: int) -> int:
        begun.append(number)
        if number == 1:
            raise ValueError("the second")
        time.sleep(0.01)
        return number

    results = parallel_map(fail, range(100), 1)
    assert next(results) == 0
    with pytest.raises(ValueError, match="the second"):
        next(results)
    assert len(begun) < 100
