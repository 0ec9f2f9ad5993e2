"""Log-mel spectrograms against librosa and transformers, and what a front end's description may say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import pytest
import soxr
from transformers.audio_utils import mel_filter_bank, spectrogram, window_function

from tests.audio import make
from tunelab.audio.mel import LogMel, MelConfig
from tunelab.errors import BundleInvalid
from tunelab.training.clips import FRONT_END
from tunelab.types import FloatArray

SHIPPED = Path(__file__).parents[2] / "models" / "tunelab-v1" / "preprocessor_config.json"
PUBLISHED_MAEST: dict[str, Any] = {
    "sampling_rate": 16_000,
    "n_fft": 512,
    "hop_length": 256,
    "win_length": 512,
    "pad_mode": "reflect",
    "num_mel_bins": 96,
    "fmin": 0.0,
    "fmax": 8000.0,
    "log": "log10_1p",
    "log_scale": 10_000.0,
    "mean": 2.06755686098554,
    "std": 1.268292820667291,
    "max_length": 1876,
}


def signals() -> list[FloatArray]:
    rng = np.random.default_rng(0)
    loud = rng.uniform(-1, 1, 480_000).astype(np.float32)
    quiet = (1e-4 * rng.standard_normal(480_000)).astype(np.float32)
    music = make.notes(30, 16_000)[:, 0]
    half = music.copy()
    half[240_000:] = 0
    return [loud, quiet, music, half, np.zeros(480_000, np.float32)]


def _librosa(config: MelConfig, samples: FloatArray) -> FloatArray:
    if config.normalize == "peak":
        samples = samples / max(np.abs(samples).max(), 0.01)
    power = librosa.feature.melspectrogram(
        y=samples,
        sr=config.sampling_rate,
        n_fft=config.n_fft,
        hop_length=config.hop_length,
        win_length=config.win_length,
        window=config.window,
        center=config.center,
        pad_mode=config.pad_mode,
        power=config.power,
        n_mels=config.num_mel_bins,
        fmin=config.fmin,
        fmax=config.fmax,
        htk=config.mel_scale == "htk",
        norm=config.mel_norm,
    )
    decibels = librosa.power_to_db(power, ref=1.0, amin=1e-10, top_db=None)
    last = len(decibels) - len(config.edge_db)
    for number, edge in enumerate(config.edge_db):
        decibels[last + number] = decibels[last - 1] + edge
    decibels = np.maximum(decibels, config.floor)
    wanted: FloatArray = ((decibels - config.mean) / config.std).T
    return wanted


@pytest.mark.parametrize("samples", signals(), ids=["loud", "quiet", "music", "half-silent", "silent"])
def test_shipped_front_end_agrees_with_librosa(samples: FloatArray) -> None:
    config = MelConfig.load(SHIPPED)
    got = LogMel(config)(samples)
    assert got.shape == (1876, 128)
    assert got.dtype == np.float32
    # In units of the standardised spectrogram, that is 0.002 dB.
    np.testing.assert_allclose(got, _librosa(config, samples), atol=1e-4)


@pytest.mark.parametrize(
    "changes",
    [
        {"mel_scale": "htk", "mel_norm": None},
        {"n_fft": 2048, "win_length": 1000, "hop_length": 320},
        {"fmin": 30.0, "fmax": 7000.0, "num_mel_bins": 64},
        {"power": 1.0},
        {"center": False},
        {"pad_mode": "reflect"},
        {"floor": -60.0},
        {"edge_db": ()},
        {"edge_db": (1.0, -3.0)},
    ],
    ids=str,
)
def test_other_front_ends_agree_with_librosa(changes: dict[str, Any]) -> None:
    config = MelConfig(**{**json.loads(SHIPPED.read_text()), **changes})
    samples = signals()[2]
    # Filters without normalisation reach lower powers, where single precision shows.
    np.testing.assert_allclose(LogMel(config)(samples), _librosa(config, samples), atol=3e-4)


@pytest.mark.parametrize("samples", signals(), ids=["loud", "quiet", "music", "half-silent", "silent"])
def test_published_maest_front_end_agrees_with_transformers(samples: FloatArray) -> None:
    config = MelConfig(**PUBLISHED_MAEST)
    filters = mel_filter_bank(257, 96, 0.0, 8000.0, 16_000, norm="slaney", mel_scale="slaney")
    power = spectrogram(
        samples.astype(np.float64),
        window_function(512, "hann"),
        frame_length=512,
        hop_length=256,
        fft_length=512,
        power=2.0,
        center=True,
        pad_mode="reflect",
        mel_filters=filters,
        mel_floor=0.0,
    )
    wanted = (np.log10(1 + 10_000 * power.T) - config.mean) / config.std
    got = LogMel(config)(samples)
    assert got.shape == (1876, 96)
    np.testing.assert_allclose(got, wanted, atol=1e-4)


def _with(normalize: str | None) -> LogMel:
    values = {key: value for key, value in json.loads(SHIPPED.read_text()).items() if key != "normalize"}
    return LogMel(MelConfig(**values) if normalize is None else MelConfig(**values, normalize=normalize))


def test_normalised_to_the_peak_level_does_not_count() -> None:
    samples = 0.2 * signals()[2] / np.abs(signals()[2]).max()
    wanted = _with("peak")(samples)
    np.testing.assert_allclose(wanted, _librosa(_with("peak").config, samples), atol=1e-4)
    for factor in (0.1, 4.0):
        louder = (factor * samples).astype(np.float32)
        np.testing.assert_allclose(_with("peak")(louder), wanted, atol=1e-4)
        assert np.abs(_with("none")(louder) - _with("none")(samples)).max() > 0.1
    # A peak is a peak on either side of zero.
    lopsided = samples.copy()
    lopsided[1000] = -1.0
    np.testing.assert_allclose(_with("peak")(lopsided), _with("none")(lopsided), atol=1e-4)


@pytest.mark.parametrize("peak", [0.009, 1e-4])
def test_quiet_windows_become_louder_by_40_db_and_not_more(peak: float) -> None:
    samples = (peak * signals()[0] / np.abs(signals()[0]).max()).astype(np.float32)
    np.testing.assert_allclose(_with("peak")(samples), _with("none")(100 * samples), atol=1e-4)


@pytest.mark.parametrize("rate", [22_050, 44_100, 48_000])
def test_what_resampling_left_of_the_last_bins_does_not_count(rate: int) -> None:
    """Sound up to 8 kHz, as it is and after it was stored at another rate, which takes the last 6 % of the band."""
    samples = (0.1 * signals()[0]).astype(np.float32)
    stored = soxr.resample(soxr.resample(samples, 16_000, rate), rate, 16_000)[: len(samples)]
    shipped = MelConfig.load(SHIPPED).model_copy(update={"normalize": "none"})  # peaks of noise are another matter
    moved = [
        np.abs(LogMel(config)(stored) - LogMel(config)(samples)).mean(axis=0) * config.std
        for config in (shipped, shipped.model_copy(update={"edge_db": ()}))
    ]
    assert moved[0].max() < 1.0
    assert moved[1].max() > 10.0
    assert shipped.edge_db == FRONT_END["edge_db"]


def test_silence_stays_silent() -> None:
    silence = np.zeros(16_000, np.float32)
    np.testing.assert_array_equal(_with("peak")(silence), _with("none")(silence))


def test_nothing_is_normalised_unless_asked_for() -> None:
    samples = (0.1 * signals()[2]).astype(np.float32)
    assert _with(None).config.normalize == "none"
    np.testing.assert_array_equal(_with(None)(samples), _with("none")(samples))
    np.testing.assert_allclose(_with(None)(samples), _librosa(_with("none").config, samples), atol=1e-4)


def test_a_window_gives_exactly_the_frames_that_the_encoder_takes() -> None:
    for changes in ({}, {"center": False}, {"hop_length": 160, "max_length": 998}, {"n_fft": 2048, "center": False}):
        config = MelConfig(**{**json.loads(SHIPPED.read_text()), **changes})
        samples = np.ones(config.num_samples, np.float32)
        assert LogMel(config)(samples).shape == (config.max_length, config.num_mel_bins)
        assert config.window_s == config.num_samples / 16_000


@pytest.mark.parametrize("normalize", ["none", "peak"])
def test_input_is_not_changed_and_may_be_read_only(normalize: str) -> None:
    samples = make.notes(2, 16_000)[:, 0]
    before = samples.copy()
    _with(normalize)(samples)
    np.testing.assert_array_equal(samples, before)
    samples.setflags(write=False)
    _with(normalize)(samples)
    np.testing.assert_array_equal(samples, before)


@pytest.mark.parametrize("size", [1, 100, 512, 513, 1024, 5000])
def test_short_input(size: int) -> None:
    for config in (MelConfig.load(SHIPPED), MelConfig(**PUBLISHED_MAEST)):
        got = LogMel(config)(np.ones(size, np.float32))
        assert got.shape == (1 + size // 256, config.num_mel_bins)
        assert np.isfinite(got).all()


@pytest.mark.parametrize("shape", [(0,), (2, 16_000), ()])
def test_wrong_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="shape"):
        LogMel(MelConfig.load(SHIPPED))(np.zeros(shape, np.float32))


class TestConfig:
    @staticmethod
    def _load(folder: Path, text: str) -> MelConfig:
        path = folder / "preprocessor_config.json"
        path.write_text(text)
        return MelConfig.load(path)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"sampling_rate": 0}, "sampling_rate"),
            ({"n_fft": 63}, "n_fft"),
            ({"n_fft": "many"}, "n_fft"),
            ({"hop_length": 0}, "hop_length"),
            ({"win_length": 2048}, "win_length"),
            ({"num_mel_bins": 100_000}, "num_mel_bins"),
            ({"fmax": 8001}, "fmax"),
            ({"fmin": 9000}, "fmin"),
            ({"fmin": -1}, "fmin"),
            ({"std": 0}, "std"),
            ({"std": float("nan")}, "std"),
            ({"mean": float("nan")}, "mean"),
            ({"mean": float("inf")}, "mean"),
            ({"floor": float("nan")}, "floor"),
            ({"mean": None}, "mean"),
            ({"window": "kaiser"}, "window"),
            ({"normalize": "rms"}, "normalize"),
            ({"pad_mode": "edge"}, "pad_mode"),
            ({"mel_scale": "bark"}, "mel_scale"),
            ({"mel_norm": "area"}, "mel_norm"),
            ({"power": 3}, "power"),
            ({"log": "ln"}, "log"),
            ({"log_scale": 0}, "log_scale"),
            ({"edge_db": [float("nan")]}, "edge_db"),
            ({"edge_db": [0.0] * 128}, "edge_db"),
            ({"log": "log10_1p"}, "edge_db"),
            ({"max_length": 15}, "max_length"),
        ],
    )
    def test_values_out_of_range(self, tmp_path: Path, changes: dict[str, Any], message: str) -> None:
        text = json.dumps({**json.loads(SHIPPED.read_text()), **changes})
        with pytest.raises(BundleInvalid, match=rf"preprocessor_config\.json.*{message}") as caught:
            self._load(tmp_path, text)
        assert str(tmp_path) not in caught.value.message

    @pytest.mark.parametrize("missing", ["sampling_rate", "n_fft", "hop_length", "num_mel_bins", "mean", "max_length"])
    def test_missing_values(self, tmp_path: Path, missing: str) -> None:
        values = json.loads(SHIPPED.read_text())
        del values[missing]
        with pytest.raises(BundleInvalid, match=missing):
            self._load(tmp_path, json.dumps(values))

    @pytest.mark.parametrize("text", ["", "{", "[]", "3", "null", '"text"'])
    def test_no_json_object(self, tmp_path: Path, text: str) -> None:
        with pytest.raises(BundleInvalid, match=r"preprocessor_config\.json"):
            self._load(tmp_path, text)

    def test_not_utf8(self, tmp_path: Path) -> None:
        (tmp_path / "preprocessor_config.json").write_bytes(b"\xff\xfe{}")
        with pytest.raises(BundleInvalid, match="JSON"):
            MelConfig.load(tmp_path / "preprocessor_config.json")

    def test_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(BundleInvalid, match="cannot be read"):
            MelConfig.load(tmp_path / "preprocessor_config.json")

    def test_other_keys_are_ignored(self, tmp_path: Path) -> None:
        values = {**json.loads(SHIPPED.read_text()), "feature_extractor_type": "ASTFeatureExtractor"}
        assert self._load(tmp_path, json.dumps(values)) == MelConfig.load(SHIPPED)
