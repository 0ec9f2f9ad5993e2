"""Bounds on time and memory, whatever a header claims."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.audio.formats import FORMATS, sample
from tests.audio.make import notes, sound_file, wav
from tunelab.audio.decode import DecodeLimits, decode
from tunelab.errors import AudioError, CorruptAudio, DecodeTimeout, ImplausibleAudio


def _huge_flac(seconds: float) -> bytes:
    data = bytearray(sound_file(notes(2, 44_100), 44_100, "FLAC", "PCM_16"))
    total = int(seconds * 44_100)
    data[21] = data[21] & 0xF0 | total >> 32
    data[22:26] = struct.pack(">I", total & 0xFFFFFFFF)
    return bytes(data)


def _huge_ogg(seconds: float, rate: int, codec: str) -> bytes:
    """An Ogg file whose last page claims to end hours later."""
    data = bytearray(sound_file(notes(2, rate), rate, "OGG", codec))
    page = data.rindex(b"OggS")
    data[page + 6 : page + 14] = struct.pack("<q", int(seconds * rate))
    data[page + 22 : page + 26] = bytes(4)
    data[page + 22 : page + 26] = struct.pack("<I", _ogg_crc(bytes(data[page:])))
    return bytes(data)


def _ogg_crc(page: bytes) -> int:
    value = 0
    for byte in page:
        value ^= byte << 24
        for _ in range(8):
            value = (value << 1 ^ 0x04C11DB7 if value & 0x80000000 else value << 1) & 0xFFFFFFFF
    return value


def _refused(data: bytes, error: type[AudioError], message: str, **limits: float) -> None:
    with pytest.raises(error, match=message) as caught:
        decode(data, limits=DecodeLimits(**limits))  # type: ignore[arg-type]
    assert type(caught.value) is error
    assert "/" not in caught.value.message.replace("MP4/MOV", "")


class TestTime:
    @pytest.mark.parametrize("name", FORMATS)
    def test_no_time_at_all(self, name: str) -> None:
        _refused(sample(name).data, DecodeTimeout, "longer than 0 s", timeout_s=0.0)

    @pytest.mark.parametrize("name", ["mp3-cbr", "flac", "ogg-vorbis", "ogg-opus", "m4a-aac", "webm-opus", "adts"])
    def test_slow_disk(self, name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        path = tmp_path / "track"
        path.write_bytes(sample(name).data)
        original = os.read

        def slow(descriptor: int, count: int) -> bytes:
            time.sleep(0.15)
            return original(descriptor, count)

        monkeypatch.setattr(os, "read", slow)
        begin = time.monotonic()
        with pytest.raises(DecodeTimeout, match=r"longer than 0\.1 s"):
            decode(path, limits=DecodeLimits(timeout_s=0.1))
        assert time.monotonic() - begin < 2.0


class TestHoursThatAreNotThere:
    @pytest.mark.parametrize(
        "data",
        [
            _huge_flac(20 * 3600),
            _huge_ogg(20 * 3600, 48_000, "OPUS"),
            _huge_ogg(20 * 3600, 44_100, "VORBIS"),
            wav(bytes(956), claimed=2_000_000_000),
        ],
        ids=["flac", "opus", "vorbis", "wav"],
    )
    def test_more_than_the_bytes_can_hold(self, data: bytes) -> None:
        _refused(data, ImplausibleAudio, r"claims \d+ s")

    @pytest.mark.parametrize(
        "data",
        [_huge_flac(3000), _huge_ogg(3000, 48_000, "OPUS"), _huge_ogg(3000, 44_100, "VORBIS")],
        ids=["flac", "opus", "vorbis"],
    )
    def test_a_wrong_length_within_the_limits_is_measured(self, data: bytes) -> None:
        try:
            got = decode(data)
        except CorruptAudio:
            return
        assert got.duration_s == pytest.approx(2.0, abs=0.1)
        assert got.samples.any()

    def test_memory_stays_bounded(self, tmp_path: Path) -> None:
        """Much sound in few bytes, and claims of much more: at most 200 MB above what the imports take."""
        silent = np.zeros((192_000 * 60, 2), np.int16)
        silent[:, 0] = 1000
        (tmp_path / "long.flac").write_bytes(sound_file(silent, 192_000, "FLAC", "PCM_16"))  # type: ignore[arg-type]
        (tmp_path / "huge.flac").write_bytes(_huge_flac(3500))
        (tmp_path / "huge.opus").write_bytes(_huge_ogg(3500, 48_000, "OPUS"))
        (tmp_path / "huge.ogg").write_bytes(_huge_ogg(3500, 44_100, "VORBIS"))
        (tmp_path / "many.wav").write_bytes(wav(bytes(range(1, 251)) * 4000, channels=64, bits=8, claimed=0xFFFFFFFF))
        done = subprocess.run([sys.executable, "-c", _MEMORY, str(tmp_path)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""


_MEMORY = """
import pathlib, resource, sys
from tunelab.audio.decode import decode
from tunelab.errors import AudioError
used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in sorted(pathlib.Path(sys.argv[1]).iterdir()):
    try:
        decode(path)
    except AudioError:
        pass
    more = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - used
    assert more < 200_000, f"{path.name}: {more} kB"
"""
