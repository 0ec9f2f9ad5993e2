"""Validation clips are read as mono of one rate, or refused."""

from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from tunelab.encoder.bundle import find_bundle
from tunelab.errors import SettingsError
from tunelab.evaluation.listeners import read_labels
from tunelab.evaluation.scoring import read_song, score_folder


def test_stereo_is_mixed_and_not_read_as_twice_as_long(tmp_path: Path) -> None:
    left, right = np.full(1000, 0.5, np.float32), np.full(1000, -0.25, np.float32)
    sf.write(tmp_path / "song.wav", np.stack([left, right], 1), 16_000, subtype="FLOAT")
    samples = read_song(tmp_path / "song.wav", 16_000)
    assert samples.shape == (1000,)
    assert samples == pytest.approx(np.full(1000, 0.125), abs=1e-6)


def test_another_rate_and_what_is_no_audio_are_told(tmp_path: Path) -> None:
    sf.write(tmp_path / "fast.wav", np.zeros(100), 44_100)
    with pytest.raises(SettingsError, match="44100 Hz"):
        read_song(tmp_path / "fast.wav", 16_000)
    (tmp_path / "text.wav").write_text("no audio")
    for name in ("text.wav", "gone.wav"):
        with pytest.raises(SettingsError, match=name):
            read_song(tmp_path / name, 16_000)


def test_a_stride_is_not_quietly_left_aside(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="for the reference"):
        score_folder(find_bundle(), tmp_path, time_stride=2, precision="f32")


def test_a_folder_without_labels_is_told(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"no labels\.csv"):
        read_labels(tmp_path)
