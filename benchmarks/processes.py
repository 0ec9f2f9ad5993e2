"""What the processes of the service use: memory and processor time."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass

import psutil  # type: ignore[import-untyped]


@dataclass(frozen=True, slots=True)
class Memory:
    """Memory of the whole service at one moment, in bytes, and PSS by kind of process.

    Attributes:
        pss: each page of memory counted once, shared ones divided among those who share them.
        rss: shared pages counted for every process.
        by_name: PSS.
        processes: how many there were.
    """

    pss: int
    rss: int
    by_name: Counter[str]
    processes: int


def memory(processes: Iterable[psutil.Process]) -> Memory:
    """Sum over processes; those that ended meanwhile are left out."""
    by_name: Counter[str] = Counter()
    rss = count = 0
    for process in processes:
        with suppress(psutil.Error):
            # From /proc/PID/smaps_rollup.
            full = process.memory_full_info()
            by_name[kind(process.name(), " ".join(process.cmdline()))] += full.pss
            rss += full.rss
            count += 1
    return Memory(by_name.total(), rss, by_name, count)


def cpu_s(processes: Iterable[psutil.Process]) -> dict[int, float]:
    """Processor seconds of each process since it began, by its id; those that ended meanwhile are left out."""
    found = {}
    for process in processes:
        with suppress(psutil.Error):
            times = process.cpu_times()
            found[process.pid] = times.user + times.system
    return found


def cpu_between(before: Mapping[int, float], after: Mapping[int, float]) -> float:
    """Processor seconds used between two readings of :func:`cpu_s`.

    A process that is new counts from its beginning; one that ended is left out, so that the sum never falls.
    """
    return sum(_used(before, after).values())


def _used(before: Mapping[int, float], after: Mapping[int, float]) -> dict[int, float]:
    return {pid: max(0.0, seconds - before.get(pid, 0.0)) for pid, seconds in after.items()}


def kinds(processes: Iterable[psutil.Process]) -> dict[int, str]:
    """What each process is, as :func:`kind` says, by its id; those that ended meanwhile are left out."""
    found = {}
    for process in processes:
        with suppress(psutil.Error):
            found[process.pid] = kind(process.name(), " ".join(process.cmdline()))
    return found


def cpu_by_kind(before: Mapping[int, float], after: Mapping[int, float], names: Mapping[int, str]) -> Counter[str]:
    """Processor milliseconds used between two readings of :func:`cpu_s`, by kind, summed as :func:`cpu_between` does.

    Args:
        before: the first reading.
        after: the second.
        names: of :func:`kinds`.
    """
    found: Counter[str] = Counter()
    for pid, seconds in _used(before, after).items():
        found[names.get(pid, "other")] += round(1000 * seconds)
    return found


def kind(name: str, command: str) -> str:
    """What a process of the service is, for a table."""
    if found := re.search(r"ServeReplica:\w+:(\w+)", command):
        return f"replica {found[1]}"
    if found := re.search(r"ray::(\w+)", command):
        return f"Ray {found[1]}"
    if "postgres" in name:
        return "PostgreSQL"
    for part in ("raylet", "gcs_server", "dashboard", "agent", "monitor", "log_monitor"):
        if part in name or part in command.split(" --")[0]:
            return f"Ray {part}"
    return "tunelab serve, serve run" if "serve" in command else "other"
