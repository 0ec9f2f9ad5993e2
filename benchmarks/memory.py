"""Memory of the whole service, idle and under load."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from benchmarks import budgets
from benchmarks.client import CLIENTS, Load, closed_loop
from benchmarks.inprocess import Track
from benchmarks.processes import Memory
from benchmarks.processes import memory as read
from benchmarks.report import Report, progress
from benchmarks.service import Service

_SAMPLE_S = 1.0


def memory(report: Report, service: Service, keys: Sequence[str], tracks: Sequence[Track], seconds: float) -> None:
    """Read memory beside a closed loop. No worker may run: it would share pages with the service and lower its PSS."""
    progress("memory")
    bodies = [track.path.read_bytes() for track in tracks]
    idle = read(service.processes())
    loads: list[Load] = []
    clients = threading.Thread(
        target=lambda: loads.append(closed_loop(service.port, keys, bodies, CLIENTS, seconds)), daemon=True
    )
    clients.start()
    samples = [read(service.processes())]
    while clients.is_alive():
        clients.join(_SAMPLE_S)
        samples.append(read(service.processes()))
    tell(report, idle, samples, loads[0] if loads else Load())


def tell(report: Report, idle: Memory, samples: Sequence[Memory], load: Load) -> None:
    """Print and judge what was read; at least one sample."""
    most = max(samples, key=lambda sample: sample.pss)
    report.figure(budgets.MEMORY, most.pss / 1e9, faults=load.faults())
    names = [name for name, _ in most.by_name.most_common()]
    rows = [[name, *(_megabytes(sample.by_name[name]) for sample in (idle, most))] for name in names]
    rows.append(["all, PSS", *(_megabytes(sample.pss) for sample in (idle, most))])
    rows.append(["all, RSS (shared pages counted again and again)", *(_megabytes(one.rss) for one in (idle, most))])
    rows.append(["processes", *(str(sample.processes) for sample in (idle, most))])
    report.section(
        f"Memory of the whole service: MB of PSS by kind of process (largest of {len(samples)} samples under load)",
        ["", "idle", f"{CLIENTS} clients"],
        rows,
        f"Under load: {load.told()}.",
        report.verdict(budgets.MEMORY),
    )


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.0f}"
