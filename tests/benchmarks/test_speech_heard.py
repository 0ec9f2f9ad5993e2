"""Who hears speech: figures by what is known of clips."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from benchmarks import speech_heard
from benchmarks.speech_heard import PAIRS, main, told_apart
from tunelab.errors import SettingsError
from tunelab.training.clips import stamp
from tunelab.training.kinds import KINDS
from tunelab.training.musicnn import TAGS
from tunelab.types import FloatArray


def test_a_detector_that_takes_singing_for_speech_is_told_from_one_that_does_not() -> None:
    kinds = np.array([KINDS[name] for name in ("music", "music", "sung+music", "rapped+music", "speech+music")])
    hears_voices = np.array([0.1, 0.2, 0.9, 0.9, 0.9], np.float32)
    hears_speech = np.array([0.1, 0.2, 0.0, 0.9, 0.9], np.float32)
    assert told_apart(hears_voices, kinds) == [1.0, 1.0, 1.0, 0.5]
    assert told_apart(hears_speech, kinds) == [1.0, 1.0, 0.0, 1.0]
    assert np.isnan(told_apart(hears_speech[:2], kinds[:2])).all()


def test_it_reads_a_corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The clips' order is that of their labels; a stand-in hears the level of the sound."""

    class Loudness:
        def __call__(self, samples: FloatArray) -> FloatArray:
            return np.abs(samples)

    monkeypatch.setattr(speech_heard, "SileroVad", Loudness)
    rng = np.random.default_rng(0)
    clips = tmp_path / "clips"
    for folder in ("audio", "tags"):
        (clips / folder).mkdir(parents=True, exist_ok=True)
    for seed in (1, 2):
        name, count = f"heldout-{seed:04d}-0000.safetensors", 8
        kinds = np.array([KINDS["music"], KINDS["speech+music"]] * (count // 2), np.float32)
        known = np.stack([kinds, np.ones(count), kinds > 0, kinds > 0], 1).astype(np.float32)
        levels = np.where(kinds > 0, 20_000, 1000)[:, None]
        save_file({"scores": rng.random((count, 7)).astype(np.float32), "known": known}, clips / name, stamp())
        save_file({"tags": rng.normal(size=(count, 10, len(TAGS))).astype(np.float16)}, clips / "tags" / name)
        save_file({"audio": np.full((count, 64), levels, np.int16)}, clips / "audio" / name)
    main(tmp_path, "heldout")
    told = capsys.readouterr().out
    (line,) = (line for line in told.splitlines() if "silero-vad, mean" in line)
    assert [cell.strip() for cell in line.strip("| ").split("|")][1:] == ["1.00", *["nan"] * (len(PAIRS) - 1)]
    assert "8 music, 8 speech+music" in told
    assert "in 0.0% of the clips" in told
    (clips / "audio" / name).unlink()
    with pytest.raises(SettingsError, match="no audio"):
        main(tmp_path, "heldout")
