"""One window of exactly the right length, and the stage from file to features."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.audio import make
from tests.audio.formats import sample
from tunelab.audio.decode import DecodeLimits, decode
from tunelab.audio.extract import MelExtractor
from tunelab.audio.mel import LogMel, MelConfig
from tunelab.audio.window import fit_window
from tunelab.errors import AudioTooLong, EmptyAudio

SHIPPED = MelConfig.load(Path(__file__).parents[2] / "models" / "tunelab-v1" / "preprocessor_config.json")


def test_short_audio_is_tiled_from_its_start() -> None:
    got = fit_window(np.arange(3, dtype=np.float32), 7)
    np.testing.assert_array_equal(got, [0, 1, 2, 0, 1, 2, 0])
    assert got.dtype == np.float32


def test_long_audio_is_cut_to_its_middle() -> None:
    samples = np.arange(10, dtype=np.float32)
    np.testing.assert_array_equal(fit_window(samples, 4), [3, 4, 5, 6])
    np.testing.assert_array_equal(fit_window(samples, 3), [3, 4, 5])
    np.testing.assert_array_equal(fit_window(samples, 10), samples)


def test_senseless_windows() -> None:
    with pytest.raises(EmptyAudio):
        fit_window(np.zeros(0, np.float32), 10)
    with pytest.raises(ValueError, match="shape"):
        fit_window(np.zeros((2, 5), np.float32), 10)
    with pytest.raises(ValueError, match="at least 1"):
        fit_window(np.zeros(5, np.float32), 0)


def test_extractor_is_decoding_fitting_and_log_mel(tmp_path: Path) -> None:
    data = make.sound_file(make.notes(35, 22_050, 2), 22_050, "FLAC", "PCM_16")
    (tmp_path / "track").write_bytes(data)
    extract = MelExtractor(SHIPPED)
    got = extract(data)
    assert got.duration_s == 35.0
    np.testing.assert_array_equal(got.mel, LogMel(SHIPPED)(decode(data, window_s=SHIPPED.window_s).samples))
    np.testing.assert_array_equal(got.mel, extract(tmp_path / "track").mel)
    np.testing.assert_array_equal(got.mel, extract(str(tmp_path / "track")).mel)


def test_short_tracks_are_tiled_to_a_whole_window() -> None:
    file = sample("wav-16")
    got = MelExtractor(SHIPPED)(file.data)
    samples = decode(file.data).samples
    np.testing.assert_array_equal(got.mel, LogMel(SHIPPED)(np.resize(samples, SHIPPED.num_samples)))
    assert got.mel.shape == (1876, 128)
    assert got.duration_s == 5.0


def test_the_bundle_decides_the_sampling_rate() -> None:
    config = SHIPPED.model_copy(update={"sampling_rate": 22_050, "max_length": 500})
    file = sample("flac")
    got = MelExtractor(config)(file.data)
    samples = decode(file.data, sample_rate=22_050, window_s=config.window_s).samples
    assert got.mel.shape == (500, 128)
    np.testing.assert_array_equal(got.mel, LogMel(config)(fit_window(samples, config.num_samples)))


def test_limits_are_passed_on() -> None:
    with pytest.raises(AudioTooLong):
        MelExtractor(SHIPPED, DecodeLimits(max_duration_s=3))(sample("flac").data)
