"""What resampling leaves below the edge of the band."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
import soxr

from benchmarks.band_edge import edge_of, main
from tunelab.errors import SettingsError


def _corpus(root: Path, rates: dict[str, int]) -> Path:
    """Packages of one file each, noise up to the highest frequency; ``low`` has none above 4 kHz."""
    rows = []
    for number, (package, rate) in enumerate(rates.items()):
        noise = (0.1 * np.random.default_rng(number).standard_normal(31 * rate)).astype(np.float32)
        if package == "low":
            noise = soxr.resample(soxr.resample(noise, rate, 8000), 8000, rate)
        (root / "un" / package).mkdir(parents=True)
        sf.write(root / "un" / package / "a.wav", noise, rate)
        rows.append({"path": f"{package}/a.wav", "kind": "music", "source": "file", "seconds": 31.0})
    rows.append({"path": "gone/a.wav", "kind": "music", "source": "file", "seconds": 31.0})
    pd.DataFrame(rows).to_parquet(root / "manifest.parquet")
    return root


def test_the_mean_of_the_last_bins_is_told_from_the_one_before() -> None:
    mel = np.tile(np.array([0.0, -10.0, -12.0, -20.0], np.float32), (5, 1))
    assert edge_of(mel, 2) == pytest.approx([-2.0, -10.0])


def test_it_reads_a_corpus(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The decoder takes the last bin nearly away; what has no such band, or cannot be read, does not count."""
    main(_corpus(tmp_path, {"cd": 44_100, "dat": 48_000, "low": 44_100, "half": 22_050}), 40)
    told = capsys.readouterr().out
    assert "medians over 2 recordings" in told
    (line,) = (line for line in told.splitlines() if line.startswith("| decoder"))
    edge = [float(cell) for cell in line.split("|")[2:-1]]
    assert len(edge) == 3
    assert abs(edge[0]) < 1
    assert edge[2] < -10


def test_a_corpus_without_such_music_is_told(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"44\.1 or 48 kHz"):
        main(_corpus(tmp_path, {"half": 22_050}), 40)
