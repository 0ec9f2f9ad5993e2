"""How many cores are used, and what importing the package costs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tunelab.encoder.engine import available_cores


@pytest.mark.parametrize(
    ("quota", "cores"),
    [
        ("max 100000", 8),
        ("200000 100000", 2),
        ("150000 100000", 2),
        ("1000 100000", 1),
        ("1600000 100000", 8),
        ("0 100000", 1),
        ("100000 0", 8),
        ("", 8),
        ("many", 8),
        (None, 8),
    ],
)
def test_cores_are_bounded_by_the_containers_quota(
    quota: str | None, cores: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    if quota is not None:
        (tmp_path / "cpu.max").write_text(quota + "\n")
    assert available_cores(tmp_path / "cpu.max") == cores


@pytest.mark.parametrize("module", ["tunelab.cli", "tunelab.encoder.bundle", "tunelab.heads"])
def test_light_to_import(module: str) -> None:
    """Commands, the service's front and the heads read a bundle's configuration and make no spectrogram."""
    code = (
        f"import sys, {module}\n"
        "heavy = {'torch', 'numba', 'librosa', 'openvino', 'transformers', 'scipy.signal', 'scipy.fft', 'ray'}\n"
        "print(*sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
