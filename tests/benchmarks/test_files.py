"""The tracks, and tags that make a file new to the service without changing its sound."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import soundfile

from benchmarks.files import MADE, RATE, make_tracks, own_tracks, synthesise
from benchmarks.unique import unique_parts
from tests.audio.make import encode, notes
from tunelab.audio._source import Source
from tunelab.audio.decode import DecodeLimits, decode
from tunelab.audio.sniff import sniff
from tunelab.types import content_id

SECONDS = 3.0


@pytest.fixture(scope="module")
def tracks(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return make_tracks(tmp_path_factory.mktemp("tracks"), SECONDS)


@pytest.fixture(scope="module")
def bodies(tracks: list[Path]) -> dict[str, bytes]:
    made = {path.name: path.read_bytes() for path in tracks}
    sound = notes(SECONDS, RATE, 2)
    made["track.m4a"] = encode(sound, RATE, "ipod", "aac", bit_rate=128_000)
    made["track.opus"] = encode(notes(SECONDS, 48_000, 2), 48_000, "ogg", "libopus", bit_rate=96_000)
    made["track.wav"] = encode(sound, RATE, "wav", "pcm_s16le")
    return made


def test_tracks_are_what_they_are_called(tracks: list[Path]) -> None:
    assert len(tracks) >= 3
    for path, made in zip(tracks, MADE, strict=True):
        info = soundfile.info(path)
        assert (info.format, info.samplerate, info.channels) == (made.format, RATE, 2)
        assert info.duration == pytest.approx(SECONDS, abs=0.1)
        left, right = soundfile.read(path)[0].T
        assert 0.05 < np.sqrt(np.mean(left**2)) < 0.5
        assert not np.allclose(left, right, atol=0.01)


def test_synthesis_is_deterministic_and_seeded() -> None:
    def digest(seed: int) -> str:
        return hashlib.sha256(np.concatenate(list(synthesise(5.0, seed))).tobytes()).hexdigest()

    assert digest(1) == digest(1) != digest(2)
    assert sum(map(len, synthesise(5.0, 1))) == 5 * RATE


@pytest.mark.parametrize("name", [*(made.name for made in MADE), "track.m4a", "track.opus", "track.wav"])
def test_unique_bytes_are_new_and_decode_to_the_same_samples(bodies: dict[str, bytes], name: str) -> None:
    data = bodies[name]
    first, second = (b"".join(unique_parts(data, text)) for text in ("1", "2"))
    assert len({content_id(data), content_id(first), content_id(second)}) == 3
    plain = decode(data)
    for tagged in (first, second):
        with Source(data, DecodeLimits()) as a, Source(tagged, DecodeLimits()) as b:
            assert sniff(a).format is sniff(b).format
        waveform = decode(tagged)
        assert np.array_equal(waveform.samples, plain.samples)
        assert (waveform.start_s, waveform.duration_s) == (plain.start_s, plain.duration_s)


def test_a_long_tag_has_the_length_that_it_says() -> None:
    tag, data = unique_parts(b"data", "x" * 1000)
    size = sum(byte << shift for byte, shift in zip(tag[6:10], (21, 14, 7, 0), strict=True))
    assert max(tag[6:10]) < 128
    assert len(tag) == 10 + size
    assert data == b"data"


def test_own_tracks_are_audio_files_by_name(tmp_path: Path) -> None:
    for name in ("b.MP3", "a.flac", "notes.txt"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "folder.mp3").mkdir()
    assert [path.name for path in own_tracks(tmp_path)] == ["a.flac", "b.MP3"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no audio files"):
        own_tracks(tmp_path / "empty")
