"""A closed loop through the graph beside workers that only analyse."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from benchmarks import budgets
from benchmarks.client import CLIENTS, Load, closed_loop, tally
from benchmarks.inprocess import Track
from benchmarks.processes import cpu_between, cpu_by_kind, cpu_s, kinds
from benchmarks.protocol import Worker
from benchmarks.report import Report, progress
from benchmarks.service import Service
from benchmarks.stats import percentile, rate

RAMP_S = 1.5
"""At the start of a closed loop, not counted."""
_PLAUSIBLE = 1.15
"""Graph / workers above this was not measured, but disturbed."""
_STABLE_S = 5.0
_STABLE_TRIES = 8

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Lengths:
    """How long throughput is measured.

    Attributes:
        warm_up_s: load before it; the shipped configuration adds replicas after 10 s of it.
        segment_s: of one closed loop, graph and workers each.
        segments: how often they take turns.
    """

    warm_up_s: float
    segment_s: float
    segments: int


@dataclass
class Measured:
    """What the segments gave.

    Attributes:
        own: requests a second of all workers together, each segment.
        graph: the same through the graph.
        idle: cores that the service used beside each own segment.
        loads: of the graph.
        client_cores: cores that the clients used.
        own_cpu_ms: processor time of the workers, in all segments.
        own_files: that they analysed in it.
        cpu_ms: processor time of the service in the graph's segments, by kind of process.
    """

    own: list[float] = field(default_factory=list)
    graph: list[float] = field(default_factory=list)
    idle: list[float] = field(default_factory=list)
    loads: list[Load] = field(default_factory=list)
    client_cores: list[float] = field(default_factory=list)
    own_cpu_ms: float = 0.0
    own_files: int = 0
    cpu_ms: Counter[str] = field(default_factory=Counter)

    @property
    def ratio(self) -> float | None:
        """Graph / workers; ``None`` if the workers finished nothing."""
        own = statistics.mean(self.own)
        return statistics.mean(self.graph) / own if own else None

    def faults(self) -> list[str]:
        """Why the ratio must not be judged; empty if nothing speaks against it."""
        found = [] if all(self.own) else ["the workers finished nothing in a segment"]
        if not all(load.answers for load in self.loads):
            found.append("no request was answered in a segment")
        errors = sum(load.errors.total() for load in self.loads)
        if errors:
            found.append(f"{errors} of {errors + sum(load.answers for load in self.loads)} requests failed")
        if self.ratio is not None and self.ratio > _PLAUSIBLE:
            found.append("the graph cannot be that much faster than the same work without it: something disturbed this")
        return found


def throughput(
    report: Report,
    service: Service,
    workers: Sequence[Worker],
    keys: Sequence[str],
    tracks: Sequence[Track],
    lengths: Lengths,
) -> None:
    """Graph and workers in turns; who begins changes from segment to segment."""
    paths = [str(track.path) for track in tracks]
    bodies = [track.path.read_bytes() for track in tracks]

    def own_segment() -> None:
        before, begin = cpu_s(service.processes()), time.monotonic()
        for number, worker in enumerate(workers):
            shift = number % len(paths)
            worker.send("loop", paths=paths[shift:] + paths[:shift], seconds=lengths.segment_s)
        answers = [worker.receive() for worker in workers]
        elapsed_s = time.monotonic() - begin
        measured.idle.append(cpu_between(before, cpu_s(service.processes())) / elapsed_s)
        measured.own.append(sum(_counted(answer["begin"], answer["ends"], lengths.segment_s) for answer in answers))
        measured.own_cpu_ms += sum(answer["cpu_ms"] for answer in answers)
        measured.own_files += sum(len(answer["ends"]) for answer in answers)

    def graph_segment() -> None:
        before, before_s = cpu_s(service.processes()), time.process_time()
        load = closed_loop(service.port, keys, bodies, CLIENTS, lengths.segment_s)
        measured.client_cores.append((time.process_time() - before_s) / lengths.segment_s)
        measured.graph.append(_counted(load.begin, load.ends, lengths.segment_s))
        measured.loads.append(load)
        processes = service.processes()
        measured.cpu_ms += cpu_by_kind(before, cpu_s(processes), kinds(processes))

    progress("throughput: warming up")
    for worker in workers:
        worker.ask("loop", paths=paths, seconds=0.1)
    warm_up = closed_loop(service.port, keys, bodies, CLIENTS, lengths.warm_up_s)
    stable = _wait_until_stable(service, keys, bodies, warm_up)
    measured = Measured()
    processes = _ids(service)
    for segment in range(lengths.segments):
        progress(f"throughput: segment {segment + 1} of {lengths.segments}")
        for measure in turn(segment, own_segment, graph_segment):
            measure()
    changed = _ids(service) != processes
    _tell(report, measured, warm_up, len(workers), len(keys), lengths, stable=stable, changed=changed)


def turn(segment: int, own: _T, graph: _T) -> tuple[_T, _T]:
    """Who is measured first and second: the order changes, so that neither always follows the other."""
    return (graph, own) if segment % 2 else (own, graph)


def settled(load: Load) -> list[float]:
    """Latencies of the requests that were answered after the ramp."""
    return [value for end, value in zip(load.ends, load.latencies, strict=True) if end > load.begin + RAMP_S]


def _wait_until_stable(service: Service, keys: Sequence[str], bodies: Sequence[bytes], warm_up: Load) -> bool:
    """Keep up the load until no process of the service came or went; what happens is added to ``warm_up``."""
    before = _ids(service)
    for _ in range(_STABLE_TRIES):
        load = closed_loop(service.port, keys, bodies, CLIENTS, _STABLE_S)
        warm_up.ends += load.ends
        warm_up.latencies += load.latencies
        warm_up.errors += load.errors
        after = _ids(service)
        if after == before:
            return True
        before = after
        progress("throughput: the service still starts or ends processes")
    return False


def _ids(service: Service) -> set[int]:
    return {process.pid for process in service.processes()}


def _tell(
    report: Report,
    measured: Measured,
    warm_up: Load,
    workers: int,
    accounts: int,
    lengths: Lengths,
    *,
    stable: bool,
    changed: bool,
) -> None:
    name = f"{workers} in-process worker{'' if workers == 1 else 's'}, 1 thread each"
    faults = measured.faults()
    if not stable:
        faults.append("the service never stopped starting or ending processes")
    report.figure(
        budgets.THROUGHPUT, measured.ratio, faults=faults, what=f"{CLIENTS} clients through the graph / {name}"
    )
    latencies = [value for load in measured.loads for value in settled(load)]
    errors = sum((load.errors for load in measured.loads), Counter[str]())
    notes = [
        f"All files in turn; the order changes from segment to segment. The first {RAMP_S:g} s of each segment are not "
        "counted.",
        f"Warm-up, not counted: {warm_up.told()}.",
        f"The clients themselves took {statistics.mean(measured.client_cores):.2f} cores of the same machine. While "
        f"the workers were measured, the service took {_list(measured.idle)} cores for itself.",
    ]
    if changed:
        notes.append("Processes of the service came or went between the first segment and the last.")
    report.section(
        f"Closed loop, {lengths.segments} x {lengths.segment_s:g} s each, in turns",
        ["", "requests/s", "each segment", "p50 ms", "p95 ms", "errors"],
        [
            [name, f"{statistics.mean(measured.own):.2f}", _list(measured.own), "-", "-", "-"],
            [
                f"graph, {CLIENTS} clients, {accounts} accounts",
                f"{statistics.mean(measured.graph):.2f}",
                _list(measured.graph),
                f"{percentile(latencies, 50):.0f}" if latencies else "-",
                f"{percentile(latencies, 95):.0f}" if latencies else "-",
                tally(errors),
            ],
        ],
        "\n".join(notes),
        report.verdict(budgets.THROUGHPUT),
    )
    report.section(
        "Processor time of one request in the closed loop",
        ["", "ms"],
        cpu_rows(measured),
        "What the service uses when nobody asks is in it.",
    )


def cpu_rows(measured: Measured) -> list[list[str]]:
    """Processor milliseconds of a file in the workers, and of a request in all of the service, by kind of process."""
    answers = max(1, sum(load.answers for load in measured.loads))
    rows = [["workers, all", f"{measured.own_cpu_ms / max(1, measured.own_files):.0f}"]]
    rows.append(["service, all", f"{measured.cpu_ms.total() / answers:.0f}"])
    return rows + [[f"  {name}", f"{ms / answers:.0f}"] for name, ms in measured.cpu_ms.most_common() if ms >= answers]


def _counted(begin: float, ends: Sequence[float], seconds: float) -> float:
    return rate(ends, begin + RAMP_S, begin + seconds)


def _list(values: Sequence[float]) -> str:
    return " ".join(f"{value:.2f}" for value in values)
