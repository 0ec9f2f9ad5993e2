"""Whole tracks: the same samples as window by window, and log-mel windows that know what is around them."""

from __future__ import annotations

import numpy as np
import pytest

from tests.audio import make
from tests.audio.formats import sample
from tests.audio.test_window_and_extract import SHIPPED
from tunelab.audio import decode as module
from tunelab.audio.decode import DecodeLimits, decode, decode_track
from tunelab.audio.extract import MelExtractor
from tunelab.audio.mel import LogMel
from tunelab.audio.track import TrackExtractor
from tunelab.errors import AudioTooLong, AudioTooShort, CorruptAudio, DecodeTimeout, SilentAudio, UnsupportedAudio
from tunelab.types import SILENCE_STEP_S

RATE = 16_000


KINDS = ["wav-16", "wav-gsm", "flac", "mp3-cbr", "mp3-vbr-no-xing", "ogg-vorbis", "ogg-opus"]
KINDS += ["m4a-alac", "m4a-aac", "mp4-fragmented", "adts"]


@pytest.mark.parametrize("name", KINDS)
def test_a_track_is_its_windows(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Decoded in pieces that nobody can hear."""
    data = sample(name).data
    monkeypatch.setattr(module, "_PIECE_S", 1.3)
    got = decode_track(data)
    assert got.start_s == 0.0
    assert got.samples.dtype == np.float32
    whole = decode(data, window_s=3600)
    assert got.duration_s == got.samples.size / RATE == pytest.approx(whole.duration_s, abs=1e-3)
    # An AAC decoder makes up noise, which depends on where it began.
    assert np.std(got.samples - whole.samples) < (0.02 if sample(name).exact else 0.1) * np.std(whole.samples)
    monkeypatch.setattr(module, "_PIECE_S", 60.0)
    np.testing.assert_array_equal(decode_track(data).samples, whole.samples)


def test_other_rates() -> None:
    assert decode_track(sample("flac").data, sample_rate=8000).samples.size == pytest.approx(
        8000 * decode(sample("flac").data).duration_s, abs=1
    )
    with pytest.raises(ValueError, match="positive"):
        decode_track(b"", sample_rate=0)


def test_limits() -> None:
    data = make.sound_file(make.notes(35, 22_050, 2), 22_050, "FLAC", "PCM_16")
    assert decode_track(data, limits=DecodeLimits(max_duration_s=35)).duration_s == 35.0
    with pytest.raises(AudioTooLong, match="34"):
        decode_track(data, limits=DecodeLimits(max_duration_s=34))
    with pytest.raises(AudioTooShort):
        decode_track(data, limits=DecodeLimits(min_duration_s=36))
    with pytest.raises(DecodeTimeout):
        decode_track(data, limits=DecodeLimits(timeout_s=0.0))
    with pytest.raises(UnsupportedAudio):
        decode_track(b"no music")


def test_what_breaks_off_ends_there() -> None:
    data = make.sound_file(make.notes(20, 22_050, 2), 22_050, "FLAC", "PCM_16")
    got = decode_track(data[: len(data) // 2])
    assert 5.0 < got.duration_s < 15.0
    np.testing.assert_allclose(got.samples[:RATE], decode_track(data).samples[:RATE], atol=1e-6)
    with pytest.raises((CorruptAudio, UnsupportedAudio, AudioTooShort)):
        decode_track(data[:200])


def test_silence_from_beginning_to_end() -> None:
    with pytest.raises(SilentAudio):
        decode_track(make.sound_file(np.zeros((3 * RATE, 1)), RATE, "FLAC", "PCM_16"))
    click = np.zeros((90 * RATE, 1))
    click[70 * RATE] = 0.5
    assert decode_track(make.sound_file(click, RATE, "FLAC", "PCM_16")).duration_s == 90.0


def test_a_track_of_one_window_has_the_features_of_an_analysis() -> None:
    for name in ("wav-16", "mp3-cbr"):
        data = sample(name).data
        track, window = TrackExtractor(SHIPPED)(data), MelExtractor(SHIPPED)(data)
        assert track.mels.shape == (1, 1876, 128)
        np.testing.assert_allclose(track.mels[0], window.mel, atol=1e-5)
        assert track.outline.duration_s == pytest.approx(window.duration_s, abs=1e-3)
        assert track.outline.starts_s == (0.0,)


def test_windows_follow_each_other_and_see_their_neighbours() -> None:
    config = SHIPPED.model_copy(update={"max_length": 201, "normalize": "none"})
    length = config.num_samples
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, 2 * length + 1000).astype(np.float32)
    track = TrackExtractor(config).from_samples(samples)
    assert track.outline.starts_s == (0.0, length / RATE, (length + 1000) / RATE)
    whole = LogMel(config)(samples)
    # The first two lie on the grid of the whole track's frames.
    np.testing.assert_allclose(track.mels[0], whole[:201], atol=1e-4)
    np.testing.assert_allclose(track.mels[1], whole[200:401], atol=1e-4)
    last = LogMel(config)(samples[length + 1000 - 1024 :])
    np.testing.assert_allclose(track.mels[2], last[4:], atol=1e-4)


def test_loudness_is_that_of_the_whole_track() -> None:
    config = SHIPPED.model_copy(update={"max_length": 201, "normalize": "peak"})
    length = config.num_samples
    quiet = np.random.default_rng(0).uniform(-0.01, 0.01, 2 * length).astype(np.float32)
    quiet[length] = 0.01
    alone = TrackExtractor(config).from_samples(quiet).mels[0]
    loud = quiet.copy()
    loud[length + 5000 :] *= 20
    beside = TrackExtractor(config).from_samples(loud).mels
    np.testing.assert_allclose(alone - beside[0], 20 * np.log10(20) / config.std, atol=5e-3)
    np.testing.assert_allclose(TrackExtractor(config).from_samples(10 * loud).mels, beside, atol=1e-3)
    still = config.model_copy(update={"normalize": "none"})
    np.testing.assert_array_equal(
        TrackExtractor(still).from_samples(loud).mels[0], TrackExtractor(still).from_samples(quiet).mels[0]
    )


def test_silence_is_told_by_steps() -> None:
    samples = np.zeros(10 * RATE + 77, np.float32)
    samples[2 * RATE : 3 * RATE] = 0.1
    samples[-1] = -0.1
    outline = TrackExtractor(SHIPPED).from_samples(samples).outline
    step = round(SILENCE_STEP_S * RATE)
    assert len(outline.silent) == -(-samples.size // step)
    sounding = np.flatnonzero(~outline.silent)
    assert sounding.tolist() == [*range(40, 60), len(outline.silent) - 1]


def test_longer_tracks_can_be_refused_for_one_call() -> None:
    extract = TrackExtractor(SHIPPED, DecodeLimits(max_duration_s=4))
    with pytest.raises(AudioTooLong, match="4 s"):
        extract(sample("flac").data)
    extract = TrackExtractor(SHIPPED)
    with pytest.raises(AudioTooLong, match=r"3\.5 s"):
        extract(sample("flac").data, 3.5)
    assert extract(sample("flac").data).outline.duration_s == pytest.approx(5.0, abs=0.01)
