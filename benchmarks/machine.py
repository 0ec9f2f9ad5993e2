"""What the figures were measured on."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from tunelab.encoder.engine import available_cores

_OURS = ("tunelab", "openvino", "ray", "numpy", "scipy", "soundfile", "av")
BUSY = 10.0
"""Percent of the processor above which other work disturbs the figures."""
_LOOK_S = 2.0


def other_work() -> float:
    """Percent of the whole processor that others use now; look before the benchmark itself does anything."""
    return float(psutil.cpu_percent(_LOOK_S))


def describe(engine: str, peers: Mapping[str, str] | None, others: float) -> list[list[str]]:
    """Rows of name and value; ``others`` is what :func:`other_work` found."""
    rows = [
        ["processor", f"{_cpu()}, {available_cores()} cores for this process"],
        ["memory", f"{psutil.virtual_memory().total / 1e9:.1f} GB"],
        ["other work before the run", f"{others:.0f} % of the processor{' - BUSY' if others > BUSY else ''}"],
        ["system", f"{platform.system()} {platform.release()}, Python {platform.python_version()}"],
        ["TuneLab", ", ".join(f"{name} {version(name)}" for name in _OURS) + f"; engine {engine}"],
    ]
    if peers is not None:
        rows.append(["peers", ", ".join(f"{name} {number}" for name, number in peers.items())])
    return rows


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        fields = dict(line.split(":", 1) for line in info.read_text().splitlines() if ":" in line)
        names = {name.strip(): value.strip() for name, value in fields.items()}
        if "model name" in names:
            details = ", ".join(f"{key} {names[key]}" for key in ("cpu family", "model") if key in names)
            return f"{names['model name']} ({details})"
    return platform.processor() or platform.machine()
