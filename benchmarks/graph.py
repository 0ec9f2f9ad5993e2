"""What the running service adds: start, HTTP latency, throughput and memory."""

from __future__ import annotations

import statistics
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks import budgets
from benchmarks.client import Client, Load, closed_loop
from benchmarks.inprocess import Track, judged
from benchmarks.protocol import Worker
from benchmarks.report import Report, progress
from benchmarks.service import Memory, Service, ServiceError
from benchmarks.stats import Summary, percentile, rate

CLIENTS = 8
_IDLE_S = 3.0
_RAMP_S = 1.5
"""At the start of a closed loop, not counted."""
_PAUSE_S = 0.2
_NOISE = 0.1
"""Of the time in process: HTTP that is faster by more than this was not measured, but disturbed."""
_SAMPLE_S = 1.0


@dataclass(frozen=True, slots=True)
class Lengths:
    """How long each part is measured, in seconds, and how often.

    Attributes:
        warm_up_s: load before throughput is measured; the shipped configuration adds replicas after 10 s of it.
        segment_s: of one closed loop, graph and workers each.
        segments: how often they take turns.
        memory_s: load under which memory is read.
        rounds: requests of one client per file.
    """

    warm_up_s: float
    segment_s: float
    segments: int
    memory_s: float
    rounds: int


def start(report: Report, service: Service, tracks: Sequence[Track]) -> None:
    """Part (e), first half: starts the service twice and leaves it running.

    Raises:
        ServiceError: it did not start, or the first start showed no key.
    """
    track = judged(tracks)[0]
    data = track.path.read_bytes()
    rows, key = [], None
    for name in ("first start: empty data folder, model cache cold", "second start: model cache warm"):
        progress(name)
        begin = time.perf_counter()
        shown = service.start()
        ready_s = time.perf_counter() - begin
        key = key or shown
        if key is None:
            raise ServiceError("the first start showed no key")
        client = Client(service.port, key)
        client.analyze(data, name)
        answered_s = time.perf_counter() - begin
        client.close()
        rows.append([name, f"{ready_s:.1f}", f"{answered_s:.1f}", budgets.START.verdict(answered_s)])
        if len(rows) == 1:
            service.stop()
    report.figure(budgets.START, answered_s)
    report.section(
        f"Start of `tunelab serve`, everything installed: s, once each ({track.name})",
        ["", "says that it is ready", "first scored answer", f"budget {budgets.START}"],
        rows,
    )


def latency(report: Report, worker: Worker, port: int, key: str, tracks: Sequence[Track], rounds: int) -> None:
    """Part (c): one client beside the same bytes in process, in turns."""
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
        size = f"{len(bodies[track.path]) / 1e6:.1f}"
        rows.append([track.name, size, str(a), str(b), f"{b.median - a.median:+.0f}"])
    chosen = judged(tracks)
    a_ms, b_ms = (statistics.median(value for track in chosen for value in times[track]) for times in (inside, outside))
    plausible = b_ms - a_ms > -_NOISE * a_ms
    if plausible:
        report.figure(budgets.HTTP, b_ms - a_ms)
    report.section(
        f"One client over HTTP, kept alive, new bytes each time: ms, median (min .. max) of {rounds}",
        ["file", "MB", "in process", "HTTP", "difference"],
        rows,
        f"The same scores as in process: {equal} of {total} answers.",
        report.verdict(budgets.HTTP)
        if plausible
        else f"The service cannot be {a_ms - b_ms:.0f} ms faster than the same work without it: other work on the "
        "machine disturbed this, and it counts as not measured.",
    )


def throughput(
    report: Report,
    service: Service,
    workers: Sequence[Worker],
    keys: Sequence[str],
    tracks: Sequence[Track],
    lengths: Lengths,
) -> None:
    """Part (d): a closed loop through the graph, in turns with workers that only analyse."""
    paths = [str(track.path) for track in tracks]
    bodies = [track.path.read_bytes() for track in tracks]
    before = service.cpu_s()
    time.sleep(_IDLE_S)
    idle = (service.cpu_s() - before) / _IDLE_S
    progress("throughput: warming up")
    for worker in workers:
        worker.ask("loop", paths=paths, seconds=0.1)
    closed_loop(service.port, keys, bodies, CLIENTS, lengths.warm_up_s)

    own_rates, graph_rates, latencies, client_cores = [], [], [], []
    errors: Counter[str] = Counter()
    for segment in range(lengths.segments):
        progress(f"throughput: segment {segment + 1} of {lengths.segments}")
        for number, worker in enumerate(workers):
            shift = number % len(paths)
            worker.send("loop", paths=paths[shift:] + paths[:shift], seconds=lengths.segment_s)
        answers = [worker.receive() for worker in workers]
        own_rates.append(sum(_counted(answer["begin"], answer["ends"], lengths.segment_s) for answer in answers))
        cpu_s = time.process_time()
        load = closed_loop(service.port, keys, bodies, CLIENTS, lengths.segment_s)
        client_cores.append((time.process_time() - cpu_s) / lengths.segment_s)
        graph_rates.append(_counted(load.begin, load.ends, lengths.segment_s))
        latencies += _settled(load)
        errors += load.errors

    own, graph = statistics.mean(own_rates), statistics.mean(graph_rates)
    report.figure(budgets.THROUGHPUT, graph / own)
    report.section(
        f"Closed loop, {lengths.segments} x {lengths.segment_s:g} s each, in turns",
        ["", "requests/s", "each segment", "p50 ms", "p95 ms", "errors"],
        [
            [f"{len(workers)} in-process workers, 1 thread each", f"{own:.2f}", _list(own_rates), "-", "-", "-"],
            [
                f"graph, {CLIENTS} clients, {len(keys)} accounts",
                f"{graph:.2f}",
                _list(graph_rates),
                f"{percentile(latencies, 50):.0f}" if latencies else "-",
                f"{percentile(latencies, 95):.0f}" if latencies else "-",
                ", ".join(f"{count} x {name}" for name, count in errors.items()) or "0",
            ],
        ],
        f"Ratio {graph / own:.2f}. All files in turn. After {lengths.warm_up_s:g} s of load; the first "
        f"{_RAMP_S:g} s of each segment are not counted.\n"
        f"The clients themselves took {statistics.mean(client_cores):.2f} cores of the same machine; the service, when "
        f"nobody asks, {idle:.2f} cores (also while the workers were measured).",
        report.verdict(budgets.THROUGHPUT),
    )


def memory(report: Report, service: Service, keys: Sequence[str], tracks: Sequence[Track], seconds: float) -> None:
    """Part (e), second half. No worker may run now: they would share pages with the service and lower its PSS."""
    bodies = [track.path.read_bytes() for track in tracks]
    idle = service.memory()
    clients = threading.Thread(target=closed_loop, args=(service.port, keys, bodies, CLIENTS, seconds), daemon=True)
    clients.start()
    samples = []
    while clients.is_alive():
        samples.append(service.memory())
        clients.join(_SAMPLE_S)
    most = max(samples, key=lambda sample: sample.pss)
    report.figure(budgets.MEMORY, most.pss / 1e9)
    names = [name for name, _ in most.by_name.most_common()]
    rows = [[name, *(f"{sample.by_name[name] / 1e6:.0f}" for sample in (idle, most))] for name in names]
    rows.append(["all, PSS", *(f"{sample.pss / 1e6:.0f}" for sample in (idle, most))])
    rows.append(["all, RSS (shared pages counted again and again)", *map(_rss, (idle, most))])
    rows.append(["processes", *(str(sample.processes) for sample in (idle, most))])
    report.section(
        f"Memory of the whole service: MB of PSS by kind of process (largest of {len(samples)} samples under load)",
        ["", "idle", f"{CLIENTS} clients"],
        rows,
        report.verdict(budgets.MEMORY),
    )


def _counted(begin: float, ends: Sequence[float], seconds: float) -> float:
    return rate(ends, begin + _RAMP_S, begin + seconds)


def _settled(load: Load) -> list[float]:
    """Latencies of the requests that were answered after the ramp."""
    return [value for end, value in zip(load.ends, load.latencies, strict=True) if end > load.begin + _RAMP_S]


def _list(rates: Sequence[float]) -> str:
    return " ".join(f"{value:.2f}" for value in rates)


def _rss(sample: Memory) -> str:
    return f"{sample.rss / 1e6:.0f}"
