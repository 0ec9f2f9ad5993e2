"""How long the service takes from its command to the first answer."""

from __future__ import annotations

import time
from collections.abc import Sequence

from benchmarks import budgets
from benchmarks.client import Client
from benchmarks.inprocess import Track, judged
from benchmarks.report import Report, progress
from benchmarks.service import Service, ServiceError


def start(report: Report, service: Service, tracks: Sequence[Track]) -> None:
    """Start the service twice, judge the first start, and leave it running.

    Raises:
        ServiceError: it did not start, or the first start showed no key.
        RequestError, OSError, http.client.HTTPException: it did not answer.
    """
    track = judged(tracks)[0]
    data = track.path.read_bytes()
    rows, key, first_s = [], None, 0.0
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
        rows.append([name, f"{ready_s:.1f}", f"{answered_s:.1f}"])
        if len(rows) == 1:
            first_s = answered_s
            service.stop()
    report.figure(budgets.START, first_s)
    report.section(
        f"Start of `tunelab serve`, which `make serve` runs, everything installed: s, once each ({track.name})",
        ["", "says that it is ready", "first scored answer"],
        rows,
        "The first start is judged. The model was loaded on this machine before, by another process with a cache of "
        "its own, so the system may hold the files of libraries and weights in memory.",
        report.verdict(budgets.START),
    )
