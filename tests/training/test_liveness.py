import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
from typer.testing import CliRunner

from tests.support import make_bundle
from tunelab import encoder
from tunelab.encoder import load_engine
from tunelab.encoder.bundle import Bundle
from tunelab.training import finish, teachers
from tunelab.training.cli import commands
from tunelab.training.liveness import COLUMN, WINDOWS, Tracks, judge, read_windows
from tunelab.types import FloatArray

RATE = 16_000


def _tracks(n: int, seed: int, noise: float) -> Tracks:
    rng = np.random.default_rng(seed)
    labels = rng.random(n).astype(np.float32)
    embeddings = rng.normal(size=(n, 768)).astype(np.float32)
    embeddings[:, :40] += (6 * (labels - 0.5) + noise * rng.normal(size=n))[:, None]
    return Tracks(embeddings, labels, np.array([f"p{number % 12}" for number in range(n)]))


def test_the_gate_decides_what_the_card_says() -> None:
    row = judge(_tracks(200, 0, 0.1), _tracks(60, 1, 0.1))
    assert row["pearson_r"] > 0.8
    assert not row["shipped"]
    assert "no recording" in row["why"]
    row = judge(_tracks(200, 0, 30.0), _tracks(60, 1, 30.0))
    assert row["pearson_r"] < 0.7
    assert f"({row['pearson_r']:.3f})" in row["why"]
    assert (row["n"], row["n_train"]) == (60, 200)


def test_windows_go_from_the_first_second_to_the_last(tmp_path: Path) -> None:
    steps = np.repeat(np.arange(1, 9) / 10, 44_100)
    sf.write(tmp_path / "a.wav", np.stack([steps, steps], 1), 44_100, subtype="FLOAT")
    windows = list(read_windows(tmp_path / "a.wav", 2 * RATE, RATE))
    assert len(windows) == WINDOWS
    assert all(len(window) == 2 * RATE and window.max() == 1.0 for window in windows)
    # 0.1 is to 0.2 as the first second to the second; in the last two it is 0.7 to 0.8.
    ratios = [np.median(window[:RATE]) / np.median(window[RATE:]) for window in windows]
    assert ratios[0] == pytest.approx(1 / 2, abs=0.02)
    assert ratios[-1] == pytest.approx(7 / 8, abs=0.02)


def test_a_file_that_ends_early_fills_its_windows(tmp_path: Path) -> None:
    sf.write(tmp_path / "a.wav", np.linspace(0.1, 0.5, RATE), RATE, subtype="FLOAT")
    windows = list(read_windows(tmp_path / "a.wav", 3 * RATE // 2, RATE))
    assert [len(window) for window in windows] == [3 * RATE // 2] * WINDOWS
    np.testing.assert_allclose(windows[-1][RATE:], windows[-1][: RATE // 2])


class FakeVibenet:
    def __call__(self, samples: FloatArray) -> SimpleNamespace:
        scores = np.zeros(7, np.float32)
        scores[COLUMN] = np.abs(samples).mean()
        return SimpleNamespace(scores=scores)


def test_the_row_goes_into_the_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = 316
    bundle = make_bundle(tmp_path / "small-v1", layers=1, frames=frames)
    monkeypatch.setattr(encoder, "load_engine", lambda opened: load_engine(opened, "torch", threads=1))
    monkeypatch.setattr(teachers, "Vibenet", FakeVibenet)
    seconds = 2 * Bundle.open(bundle).mel.num_samples / RATE
    rng, rows = np.random.default_rng(0), []
    for number in range(28):
        path = tmp_path / "un" / f"{number}.wav"
        path.parent.mkdir(exist_ok=True)
        noise = rng.normal(size=int(seconds * 8000) + 8) * rng.random(int(seconds * 8000) + 8) ** (number % 5)
        sf.write(path, noise / np.abs(noise).max(), 8000)
        rows.append({"path": path.name, "package": f"p{number % 9}", "kind": "music", "seconds": seconds + 0.001})
    rows.append({"path": "short.wav", "package": "p0", "kind": "music", "seconds": 3.0})
    table = pd.DataFrame(rows).assign(split=["train"] * 20 + ["heldout"] * 9)
    table.to_parquet(tmp_path / "manifest.parquet")
    below = {"pearson_r": 0.1, "why": "low"}
    heads = {"energy": {"shipped": True}, "happiness": {"shipped": False, **below}}
    card = {"heads": heads, "dropped": {"happiness": below}}
    (bundle / "card.json").write_text(json.dumps(card))
    written: dict[str, Any] = {}
    monkeypatch.setattr(finish, "update_card", lambda folder, parts: written.update(parts))
    result = CliRunner().invoke(commands, ["liveness", str(tmp_path), "--bundle", str(bundle), "--count", "24"])
    assert result.exit_code == 0, f"{result.output}\n{result.exception!r}"
    row = written["heads"]["liveness"]
    assert (row["n"], row["n_train"]) == (8, 20)
    assert set(written["heads"]) == {"energy", "happiness", "liveness"}
    assert written["dropped"]["happiness"] == below
    assert set(written["dropped"]) == {"happiness", "liveness"}
    assert json.loads(json.dumps(written)) == written
