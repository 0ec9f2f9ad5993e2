"""Which window of a track is decoded, and how it is resampled."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soxr

from tests.audio import make
from tests.audio.make import Signal
from tunelab.audio.decode import DecodeLimits, decode
from tunelab.errors import AudioTooShort, SilentAudio

RATE = 44_100


@pytest.fixture(scope="module")
def track() -> Signal:
    """70 s of stereo at 44.1 kHz, in steps of 16 bits."""
    return (np.round(make.notes(70, RATE, 2) * 32767) / 32768).astype(np.float32)


@pytest.fixture(scope="module")
def flac(track: Signal) -> bytes:
    return make.sound_file(track, RATE, "FLAC", "PCM_16")


def test_default_is_the_middle_30_s_at_16_khz(track: Signal, flac: bytes) -> None:
    got = decode(flac)
    assert got.samples.shape == (480_000,)
    assert got.samples.dtype == np.float32
    assert (got.sample_rate, got.start_s, got.duration_s) == (16_000, 20.0, 70.0)
    whole = soxr.resample(make.mono(track), RATE, 16_000, quality="HQ")
    np.testing.assert_allclose(got.samples, whole[320_000:800_000], atol=2e-6)


def test_without_resampling_the_samples_are_those_of_the_file(track: Signal, flac: bytes) -> None:
    got = decode(flac, sample_rate=RATE, window_s=30)
    np.testing.assert_array_equal(got.samples, make.mono(track)[20 * RATE : 50 * RATE])


@pytest.mark.parametrize("sample_rate", [8000, 16_000, 22_050, 32_000, 48_000, 96_000])
@pytest.mark.parametrize("start", [0.0, 12.345678, 66.0])
def test_any_window_is_as_if_the_whole_track_had_been_resampled(
    track: Signal, flac: bytes, sample_rate: int, start: float
) -> None:
    got = decode(flac, sample_rate=sample_rate, window_s=3.0, start=start)
    whole = soxr.resample(make.mono(track), RATE, sample_rate, quality="HQ")
    begin = round(start * sample_rate)
    assert got.start_s == begin / sample_rate
    np.testing.assert_allclose(got.samples, whole[begin : begin + 3 * sample_rate], atol=1e-5)


@pytest.mark.parametrize("rate", [11_025, 22_050, 37_800, 44_056, 88_200, 96_000, 176_400, 192_000])
def test_odd_sampling_rates(rate: int) -> None:
    signal = make.notes(3, rate)
    got = decode(make.sound_file(signal, rate, "WAV", "FLOAT"), window_s=1.0)
    whole = soxr.resample(signal[:, 0], rate, 16_000, quality="HQ")
    begin = round(got.start_s * 16_000)
    np.testing.assert_allclose(got.samples, whole[begin : begin + 16_000], atol=1e-5)


def test_last_window_is_shorter(flac: bytes) -> None:
    got = decode(flac, start=60.0)
    assert got.samples.size == 10 * 16_000
    assert got.start_s == 60.0


def test_track_shorter_than_the_window_is_decoded_whole() -> None:
    signal = make.notes(2.5, 16_000)
    got = decode(make.sound_file(signal, 16_000, "WAV", "FLOAT"))
    np.testing.assert_array_equal(got.samples, signal[:, 0])
    assert (got.start_s, got.duration_s) == (0.0, 2.5)


def test_channels_are_averaged() -> None:
    signal = make.notes(2, 16_000, 6)
    got = decode(make.sound_file(signal, 16_000, "WAV", "FLOAT"))
    np.testing.assert_allclose(got.samples, signal.mean(axis=1), atol=1e-6)


@pytest.mark.parametrize(
    "arguments",
    [
        {"sample_rate": 0},
        {"sample_rate": -1},
        {"window_s": 0.0},
        {"window_s": -3.0},
        {"window_s": float("nan")},
        {"window_s": float("inf")},
        {"start": -0.1},
        {"start": float("nan")},
        {"start": float("inf")},
        {"start": 70.0},
        {"start": 1e9},
    ],
)
def test_senseless_arguments(flac: bytes, arguments: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"positive|negative|ends at 70\.00 s"):
        decode(flac, **arguments)  # type: ignore[arg-type]


def test_wrong_type_is_a_type_error() -> None:
    with pytest.raises(TypeError):
        decode(3.5)  # type: ignore[arg-type]


def test_the_same_bytes_give_the_same_samples(flac: bytes) -> None:
    np.testing.assert_array_equal(decode(flac).samples, decode(flac).samples)


def test_samples_are_the_callers_own(flac: bytes) -> None:
    samples = decode(flac, window_s=1).samples
    samples[:] = 0
    assert samples.base is None
    assert decode(flac, window_s=1).samples.any()


class TestSilence:
    @staticmethod
    def _flac(*spans: tuple[float, float]) -> bytes:
        signal = np.zeros((40 * 8000, 1), np.float32)
        for begin, end in spans:
            at = slice(round(begin * 8000), round(end * 8000))
            signal[at] = make.notes(end - begin, 8000)
        return make.sound_file(signal, 8000, "FLAC", "PCM_16")

    def test_a_silent_middle_is_left_for_a_place_with_sound(self) -> None:
        got = decode(self._flac((8, 12)), window_s=4)
        assert got.start_s == 9.0  # a quarter of the way from 0 to 36 s
        assert got.samples.any()
        assert decode(self._flac((38, 40)), window_s=4).start_s == 36.0
        assert decode(self._flac((0, 1)), window_s=4).start_s == 0.0

    def test_silent_track(self) -> None:
        with pytest.raises(SilentAudio, match="silent at its middle, its ends"):
            decode(self._flac(), window_s=4)
        with pytest.raises(SilentAudio, match="from beginning to end"):
            decode(self._flac(), window_s=60)

    def test_below_one_step_of_16_bits_is_silent(self) -> None:
        quiet = np.full((16_000, 1), 0.6e-5, np.float32)
        with pytest.raises(SilentAudio):
            decode(make.sound_file(quiet, 16_000, "WAV", "FLOAT"))
        assert decode(make.sound_file(2 * quiet, 16_000, "WAV", "FLOAT")).samples.any()

    def test_channels_that_cancel_out(self) -> None:
        left = make.notes(2, 8000)
        with pytest.raises(SilentAudio, match="cancel"):
            decode(make.sound_file(np.hstack([left, -left]), 8000, "WAV", "FLOAT"))

    def test_a_silent_window_that_was_asked_for_is_given(self) -> None:
        got = decode(self._flac((0, 1)), window_s=4, start=20.0)
        assert not got.samples.any()


class TestDuration:
    def test_bounds(self) -> None:
        signal = make.notes(4, 8000)
        data = make.sound_file(signal, 8000, "WAV", "PCM_16")
        assert decode(data, limits=DecodeLimits(min_duration_s=4.0, max_duration_s=4.0)).duration_s == 4.0
        with pytest.raises(AudioTooShort, match=r"4\.00 s long; at least 4\.5 s"):
            decode(data, limits=DecodeLimits(min_duration_s=4.5))

    def test_one_sample_below_the_minimum(self) -> None:
        with pytest.raises(AudioTooShort):
            decode(make.wav(bytes(2 * 15_999)))

    @pytest.mark.parametrize("size", [100, 1152, 16_000])
    def test_very_short_windows(self, size: int) -> None:
        signal = make.notes(2, 16_000)
        got = decode(make.sound_file(signal, 16_000, "WAV", "FLOAT"), window_s=size / 16_000, start=0.5)
        np.testing.assert_array_equal(got.samples, signal[8000 : 8000 + size, 0])


def test_str_and_pathlike_paths(tmp_path: Path, flac: bytes) -> None:
    path = tmp_path / "Ünïcode — 音.mp3"
    path.write_bytes(flac)
    np.testing.assert_array_equal(decode(str(path)).samples, decode(path).samples)
