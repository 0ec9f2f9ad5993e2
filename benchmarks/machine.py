"""What the figures were measured on."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]

from benchmarks.processes import cpu_between, cpu_s
from benchmarks.protocol import ROOT
from tunelab.encoder.engine import available_cores

_OURS = ("tunelab", "openvino", "ray", "numpy", "scipy", "soundfile", "av")
BUSY = 10.0
"""Percent of the cores that this process may use, above which other work disturbs the figures."""
_LOOK_S = 2.0
_CPU_FIELDS = 8
"""Of what the system counts for a core; guests, which come after them, are part of user time already."""


class OtherWork:
    """How much others used the cores that this process may use, read before each part of the benchmark."""

    def __init__(self) -> None:
        self._found: dict[str, float] = {}

    def look(self, part: str, processes: Iterable[psutil.Process] = ()) -> float:
        """Percent of the cores that others use now.

        Args:
            part: of the benchmark, that comes next.
            processes: of the benchmark; those that descend from this one need not be named.
        """
        own = {one.pid: one for one in (psutil.Process(), *psutil.Process().children(recursive=True), *processes)}
        cores = _cores()
        begin, busy_s, own_s = time.monotonic(), _busy_s(cores), cpu_s(own.values())
        time.sleep(_LOOK_S)
        used_s = cpu_between(own_s, cpu_s(own.values()))
        found = share(_busy_s(cores) - busy_s, used_s, time.monotonic() - begin, len(cores))
        self.add(part, found)
        return found

    def add(self, part: str, percent: float) -> None:
        """Keep what was found before a part."""
        self._found[part] = percent

    def notes(self) -> list[str]:
        """What has to be said about it; the worst part decides whether the machine was busy."""
        told = ", ".join(f"{part} {percent:.0f} %" for part, percent in self._found.items())
        notes = [f"Other work on the cores of this process, before each part: {told}."]
        worst = max(self._found, key=self._found.__getitem__)
        if self._found[worst] > BUSY:
            notes.append(
                f"The machine was BUSY with other work ({self._found[worst]:.0f} % of these cores before: {worst}): no "
                "figure and no verdict is worth keeping."
            )
        return notes


def share(busy_s: float, own_s: float, seconds: float, cores: int) -> float:
    """Percent of ``cores`` that others used, where they were busy for ``busy_s`` and ``own_s`` of it was our own."""
    return min(100.0, 100 * max(0.0, busy_s - own_s) / (seconds * cores))


def describe(hello: Mapping[str, Any], peers: Mapping[str, str] | None, others: float) -> list[list[str]]:
    """Rows of name and value.

    Args:
        hello: what the worker says about TuneLab.
        peers: versions by name, if peers are measured.
        others: what :meth:`OtherWork.look` found first.
    """
    rows = [
        ["processor", f"{processor()}, {available_cores()} cores for this process"],
        ["memory", f"{psutil.virtual_memory().total / 1e9:.1f} GB"],
        ["other work before the run", f"{others:.0f} % of these cores{' - BUSY' if others > BUSY else ''}"],
        ["system", f"{platform.system()} {platform.release()}, Python {platform.python_version()}"],
        ["TuneLab", ", ".join(f"{name} {version(name)}" for name in _OURS)],
        ["commit", commit(ROOT)],
        [
            "bundle",
            f"{hello['bundle']} {hello['version']} ({hello['fingerprint']}): {hello['blocks']} blocks, "
            f"{hello['tokens']} tokens; engine {hello['engine']}",
        ],
    ]
    if peers is not None:
        rows.append(["peers", ", ".join(f"{name} {number}" for name, number in peers.items())])
    return rows


def commit(folder: Path) -> str:
    """The commit that is checked out in a folder, and whether files differ from it; ``none`` outside of git."""

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        # A repository further up is not ours.
        if Path(git("rev-parse", "--show-toplevel")).resolve() != folder.resolve():
            return "none"
        changed = " with changes" if git("status", "--porcelain") else ""
        return git("rev-parse", "--short=12", "HEAD") + changed
    except (OSError, subprocess.CalledProcessError):
        return "none"


def _cores() -> set[int]:
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def _busy_s(cores: set[int]) -> float:
    """Seconds that these cores were not idle since the machine began."""
    times = psutil.cpu_times(percpu=True)
    # Where the system does not list all cores, their numbers are no places in its list: look at all of them.
    chosen = [times[core] for core in sorted(cores)] if max(cores) < len(times) else times
    return float(sum(sum(one[:_CPU_FIELDS]) - one.idle - getattr(one, "iowait", 0.0) for one in chosen))


def processor() -> str:
    """Name of this CPU, with family and model where the system tells them."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        fields = dict(line.split(":", 1) for line in info.read_text().splitlines() if ":" in line)
        names = {name.strip(): value.strip() for name, value in fields.items()}
        if "model name" in names:
            details = ", ".join(f"{key} {names[key]}" for key in ("cpu family", "model") if key in names)
            return f"{names['model name']} ({details})"
    return platform.processor() or platform.machine()
