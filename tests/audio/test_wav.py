"""WAV headers: what lies in them, and what many programs write."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from tests.audio import make
from tests.audio.make import chunk, pcm16, wav
from tunelab.audio.decode import decode
from tunelab.errors import AudioError, CorruptAudio, EmptyAudio, ImplausibleAudio, UnsupportedAudio
from tunelab.types import FloatArray

SIGNAL = make.notes(2, 16_000)
DATA = pcm16(SIGNAL)
WANTED = np.frombuffer(DATA, "<i2").astype(np.float32) / 32768


def samples(data: bytes) -> FloatArray:
    return decode(data, window_s=60).samples


@pytest.mark.parametrize(
    "before",
    [
        chunk(b"LIST", b"INFOISFT\x05\0\0\0Lavf\0\0"),
        chunk(b"fact", b"\0\0\0\0"),
        chunk(b"LIST", b"odd"),
        chunk(b"LIST", b"odd", pad=False),
        chunk(b"junk", bytes(1001)),
        chunk(b"bext", bytes(602)) + chunk(b"iXML", b"<x/>") + chunk(b"cue ", bytes(4)),
    ],
    ids=["list", "fact", "odd", "odd-not-padded", "junk", "broadcast"],
)
def test_chunks_before_the_samples_are_passed_over(before: bytes) -> None:
    np.testing.assert_array_equal(samples(wav(DATA, before=before)), WANTED)


def test_chunks_after_the_samples_are_no_samples() -> None:
    np.testing.assert_array_equal(samples(wav(DATA, after=chunk(b"LIST", b"INFO" * 500))), WANTED)


@pytest.mark.parametrize("claimed", [0xFFFFFFFF, 0xFFFFFFFE, 0x7FFFFFFF, 0x80000000, 0x7FFFF000, 0, len(DATA) + 4000])
def test_sizes_of_streams_and_cut_files(claimed: int) -> None:
    np.testing.assert_array_equal(samples(wav(DATA, claimed=claimed)), WANTED)


def test_odd_last_byte_is_left_out() -> None:
    np.testing.assert_array_equal(samples(wav(DATA + b"\x01", claimed=0xFFFFFFFF)), WANTED)


def test_rf64_with_its_sizes_in_ds64() -> None:
    ds64 = chunk(b"ds64", struct.pack("<QQQI", 0, len(DATA), len(DATA) // 2, 0))
    plain = wav(DATA, claimed=0xFFFFFFFF, after=chunk(b"LIST", b"INFO" * 500))
    for magic in (b"RF64", b"BW64"):
        rf64 = magic + plain[4:12] + ds64 + plain[12:]
        np.testing.assert_array_equal(samples(rf64), WANTED)


def test_rifx() -> None:
    np.testing.assert_array_equal(samples(wav(pcm16(SIGNAL, ">"), order=">")), WANTED)


def test_id3_tag_in_front_and_inside() -> None:
    tag = b"ID3\x03\0\0\0\0\x01\0" + bytes(128)
    np.testing.assert_array_equal(samples(tag + wav(DATA)), WANTED)
    np.testing.assert_array_equal(samples(wav(DATA, before=chunk(b"id3 ", tag))), WANTED)


def test_20_bits_in_24_and_24_bits_in_32() -> None:
    values = np.round(SIGNAL[:, 0] * 2**19).astype("<i4") << 12
    packed = values.view("u1").reshape(-1, 4)
    form = {"channels": 1, "rate": 16_000}
    got = samples(_with_block(packed[:, 1:].tobytes(), bits=20, block=3, **form))
    np.testing.assert_allclose(got, SIGNAL[:, 0], atol=2e-6)
    got = samples(_with_block(packed.tobytes(), bits=24, block=4, **form))
    np.testing.assert_allclose(got, SIGNAL[:, 0], atol=2e-6)


def _with_block(data: bytes, *, bits: int, block: int, channels: int, rate: int) -> bytes:
    form = struct.pack("<HHIIHH", 1, channels, rate, rate * block, block, bits)
    return b"RIFF\0\0\0\0WAVE" + chunk(b"fmt ", form) + chunk(b"data", data)


def test_extensible_by_hand() -> None:
    guid = struct.pack("<H", 3) + bytes.fromhex("000000001000800000aa00389b71")
    extra = struct.pack("<HHI", 22, 32, 4) + guid
    data = SIGNAL.astype("<f4").tobytes()
    np.testing.assert_array_equal(samples(wav(data, codec=0xFFFE, bits=32, extra=extra)), SIGNAL[:, 0])


def test_long_files_are_read_in_pieces() -> None:
    signal = make.notes(300, 8000)
    np.testing.assert_array_equal(
        decode(make.wav(pcm16(signal), rate=8000), sample_rate=8000, window_s=400).samples,
        np.frombuffer(pcm16(signal), "<i2").astype(np.float32) / 32768,
    )


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (wav(b""), EmptyAudio, "no samples"),
        (wav(b"", after=chunk(b"LIST", b"INFO")), EmptyAudio, "no samples"),
        (wav(b"", claimed=4000), CorruptAudio, "breaks off before"),
        (wav(DATA)[:30], CorruptAudio, "data chunk is missing|too short"),
        (wav(DATA)[:40], CorruptAudio, "data chunk is missing"),
        (b"RIFF\0\0\0\0WAVE", CorruptAudio, "data chunk is missing"),
        (b"RIFF\0\0\0\0WAVE" + chunk(b"data", DATA), CorruptAudio, "does not say in which format"),
        (b"RIFF\0\0\0\0WAVE" + chunk(b"fmt ", bytes(8)) + chunk(b"data", DATA), CorruptAudio, "too short"),
        (wav(DATA, channels=0), ImplausibleAudio, "0 channels"),
        (wav(DATA, channels=65), ImplausibleAudio, "65 channels"),
        (wav(DATA, rate=768_000), ImplausibleAudio, "768000 Hz"),
        (wav(DATA, rate=0), ImplausibleAudio, "0 Hz"),
        (wav(DATA, rate=0xFFFFFFFF), ImplausibleAudio, "Hz"),
        (wav(bytes(956), claimed=10 * 3600 * 32_000), ImplausibleAudio, "36000 s of audio in a file of 1000 bytes"),
        (wav(DATA, codec=0x161), UnsupportedAudio, "codec 0x0161"),
        (wav(DATA, codec=1, bits=64), UnsupportedAudio, "64 bits"),
        (wav(DATA, codec=3, bits=16), UnsupportedAudio, "16 bits"),
        (wav(DATA, bits=0), UnsupportedAudio, "0 bits"),
        (wav(np.full(32_000, np.nan, "<f4").tobytes(), codec=3, bits=32), CorruptAudio, "not numbers"),
        (wav(np.full(32_000, np.inf, "<f4").tobytes(), codec=3, bits=32), CorruptAudio, "not numbers"),
        (wav(np.full(32_000, 3e38, "<f4").tobytes(), codec=3, bits=32), CorruptAudio, "full scale"),
        (wav(np.full(32_000, 1e300, "<f8").tobytes(), codec=3, bits=64), CorruptAudio, "not numbers|full scale"),
    ],
    ids=lambda value: None if isinstance(value, bytes) else getattr(value, "__name__", value)[:24],
)
def test_broken_headers(data: bytes, error: type[AudioError], message: str) -> None:
    with pytest.raises(error, match=message):
        decode(data)


def test_two_infinities_that_meet_in_the_mix() -> None:
    pair = np.tile(np.array([np.inf, -np.inf], "<f4"), 32_000).tobytes()
    with pytest.raises(CorruptAudio, match="not numbers"):
        decode(wav(pair, channels=2, codec=3, bits=32))
