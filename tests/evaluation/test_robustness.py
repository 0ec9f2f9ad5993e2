import io
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from safetensors.numpy import save_file

from tunelab.audio.decode import decode
from tunelab.errors import SettingsError
from tunelab.evaluation.robustness import CONDITIONS, RATE, held_out_clips, measure, table, variants
from tunelab.evaluation.scoring import compare_scores
from tunelab.types import FloatArray


@pytest.fixture(scope="module")
def tone() -> FloatArray:
    seconds = np.arange(3 * RATE) / RATE
    return (0.3 * np.sin(2 * np.pi * 440 * seconds) * np.exp(-seconds)).astype(np.float32)


def test_every_variant_is_a_file_of_the_same_sound(tone: FloatArray) -> None:
    files = variants(tone)
    assert list(files) == ["", *CONDITIONS]
    peak = 0.25
    for name, data in files.items():
        samples = decode(data, sample_rate=RATE, window_s=3.0).samples
        assert len(samples) == pytest.approx(3 * RATE, abs=2500), name
        wanted = {"level -12 dB": peak / 4, "level +12 dB": 4 * peak}.get(name, peak)
        assert float(np.abs(samples).max()) == pytest.approx(wanted, rel=0.06), name
    assert sf.info(io.BytesIO(files["stereo 48 kHz"])).channels == 2


def test_changes_are_in_points_and_against_the_plain_file(tone: FloatArray) -> None:
    def score(data: bytes) -> dict[str, float]:
        # The peak is a score that the level moves and nothing else.
        return {"energy": float(np.abs(decode(data, sample_rate=RATE, window_s=3.0).samples).max()), "happiness": 0.5}

    points = measure(score, [tone, tone])
    assert points["level +12 dB"]["energy"]["mean"] == pytest.approx(75, abs=2)
    assert points["22.05 kHz"]["energy"]["p95"] < 2
    assert all(row["happiness"] == {"mean": 0.0, "p95": 0.0} for row in points.values())
    lines = table(points)
    assert lines[0] == "| change | energy | happiness |"
    assert len(lines) == 2 + len(CONDITIONS)
    beside = table(points, points)
    assert len(beside) == 2 + 2 * len(CONDITIONS)
    assert beside[3] == beside[2].replace("level -12 dB", "level -12 dB, vibenet")


def test_held_out_clips_are_spread_over_the_shards(tmp_path: Path) -> None:
    with pytest.raises(SettingsError):
        held_out_clips(tmp_path, 3)
    (tmp_path / "audio").mkdir()
    for shard in range(2):
        audio = np.full((5, 10), 1000 * (shard + 1), np.int16)
        save_file({"audio": audio}, tmp_path / "audio" / f"heldout-0001-{shard:04d}.safetensors")
    clips = held_out_clips(tmp_path, 4)
    assert len(clips) == 4
    assert {round(float(clip[0]) * 32767) for clip in clips} == {1000, 2000}


def test_differences_of_scores_are_in_points() -> None:
    exact = {"energy": np.array([0.5, 0.6, 0.7], np.float32)}
    rows = compare_scores(exact, {"energy": np.array([0.5, 0.61, 0.67], np.float32)})
    assert rows["energy"] == {
        "mean": pytest.approx(1.33, abs=0.01),
        "p99": pytest.approx(2.96, abs=0.01),
        "largest": 3.0,
    }
