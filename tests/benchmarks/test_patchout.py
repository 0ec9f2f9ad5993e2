"""A bundle and its copy without every second time patch are timed in turns."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import patchout


class Clocked:
    """An analyser that takes as long as it says, on a clock of its own."""

    def __init__(self, seconds: list[float], clock: list[float]) -> None:
        self._seconds, self._clock = seconds, clock

    def analyze(self, file: Path) -> None:
        self._clock[0] += self._seconds.pop(0)


def test_the_first_round_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("benchmarks.patchout.time.perf_counter", lambda: clock[0])
    whole, thin = Clocked([9.0, 2.0, 3.0], clock), Clocked([8.0, 1.0, 1.5], clock)
    found = patchout.compare(whole, thin, Path("a.mp3"), 2)  # type: ignore[arg-type]
    assert [[pytest.approx(ms) for ms in times] for times in found] == [[2000.0, 3000.0], [1000.0, 1500.0]]
