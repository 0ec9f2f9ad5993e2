"""What HTTP and the graph add to one request."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence

from benchmarks import budgets
from benchmarks.client import Client
from benchmarks.inprocess import Track, judged
from benchmarks.protocol import Worker
from benchmarks.report import Report, progress
from benchmarks.stats import Summary

_PAUSE_S = 0.2
_NOISE = 0.1
"""Of the time in process: HTTP that is faster by more than this was not measured, but disturbed."""


def faults(inside_ms: float, outside_ms: float, equal: int, total: int) -> list[str]:
    """Why a difference must not be judged; empty if nothing speaks against it.

    Args:
        inside_ms: median in process.
        outside_ms: median over HTTP.
        equal: answers over HTTP with the scores of the analysis in process.
        total: all answers.
    """
    found = []
    if equal < total:
        found.append(f"{total - equal} of {total} answers differ from the analysis in process")
    if outside_ms < (1 - _NOISE) * inside_ms:
        found.append(
            f"the service cannot be {inside_ms - outside_ms:.0f} ms faster than the same work without it: something "
            "disturbed this"
        )
    return found


def latency(report: Report, worker: Worker, port: int, key: str, tracks: Sequence[Track], rounds: int) -> None:
    """One client beside the same bytes in process, in turns.

    Raises:
        RequestError, OSError, http.client.HTTPException: a request was not answered.
    """
    client = Client(port, key)
    bodies = {track.path: track.path.read_bytes() for track in tracks}
    inside: dict[Track, list[float]] = {track: [] for track in tracks}
    outside: dict[Track, list[float]] = {track: [] for track in tracks}
    equal = total = 0
    for number in range(rounds + 1):
        for track in tracks:
            tag = f"latency {number}"
            own = worker.ask("analyze_bytes", path=str(track.path), tag=tag)
            time.sleep(_PAUSE_S)
            begin = time.perf_counter()
            answer = client.analyze(bodies[track.path], tag)
            elapsed_ms = 1000 * (time.perf_counter() - begin)
            time.sleep(_PAUSE_S)
            total += 1
            equal += {name: value for name, value in answer.items() if name != "_meta"} == own["scores"]
            if number:  # the first round warms up
                inside[track].append(float(own["ms"]))
                outside[track].append(elapsed_ms)
        progress(f"HTTP latency: round {number} of {rounds}")
    client.close()

    rows = []
    for track in tracks:
        a, b = Summary.of(inside[track]), Summary.of(outside[track])
        rows.append([track.name, track.megabytes, str(a), str(b), f"{b.median - a.median:+.0f}"])
    chosen = judged(tracks)
    a_ms, b_ms = (statistics.median(value for track in chosen for value in times[track]) for times in (inside, outside))
    report.figure(budgets.HTTP, b_ms - a_ms, faults=faults(a_ms, b_ms, equal, total))
    report.section(
        f"One client over HTTP, kept alive, new bytes each time: ms, median (min .. max) of {rounds}",
        ["file", "MB", "in process", "HTTP", "difference"],
        rows,
        f"{equal} of {total} answers have the same scores as in process" + ("." if equal == total else ": NOT ALL."),
        report.verdict(budgets.HTTP),
    )
