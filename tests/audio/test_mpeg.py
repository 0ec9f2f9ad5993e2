"""MP3 and AAC streams: tags, junk, gapless information, streams that lie or break off."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest

from tests.audio import make
from tests.audio.make import lag, mp3, snr_db
from tunelab.audio.decode import decode
from tunelab.errors import AudioTooShort, CorruptAudio, EmptyAudio, UnsupportedAudio
from tunelab.types import FloatArray

RATE = 44_100
SIGNAL = make.notes(8, RATE, 2)
WANTED = make.mono(SIGNAL)


@pytest.fixture(scope="module")
def cbr() -> bytes:
    return mp3(SIGNAL, RATE)


@pytest.fixture(scope="module")
def adts() -> bytes:
    return make.encode(SIGNAL, RATE, "adts", "aac", bit_rate=128_000)


def whole(data: bytes) -> FloatArray:
    return decode(data, sample_rate=RATE, window_s=100, start=0.0).samples


def id3v2(size: int, flags: int = 0) -> bytes:
    length = bytes(size >> shift & 127 for shift in (21, 14, 7, 0))
    # What looks like frame headers, as in an embedded picture.
    return b"ID3\x04\x00" + bytes([flags]) + length + (b"\xff\xfb\x90\x64" * (size // 4 + 1))[:size]


ID3V1 = b"TAG" + b"Title".ljust(125, b"\0")
APE = b"APETAGEX\xd0\x07\0\0" + bytes(20) + b"\xff\xfb\x90\x64" * 20


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (id3v2(10), b""),
        (id3v2(4000), ID3V1),
        (id3v2(300_000), b""),
        (id3v2(100) + id3v2(500), ID3V1),
        (id3v2(100, 0x10) + b"3DI" + bytes(7), b""),
        (id3v2(100) + bytes(3000), APE + ID3V1),
        (b"junk" * 1000, b""),
        (bytes(5000), b"\0" * 5000),
        (b"\xff\xfb" * 50 + Random(0).randbytes(20_000), b""),  # noqa: S311
        (b"", b"LYRICSBEGIN" + b"la " * 500 + b"LYRICS200" + ID3V1),
    ],
    ids=["small", "v2-v1", "picture", "two", "footer", "padded-ape", "junk", "zeros", "false-headers", "lyrics"],
)
def test_tags_and_junk_are_no_sound(cbr: bytes, before: bytes, after: bytes) -> None:
    np.testing.assert_array_equal(whole(before + cbr + after), whole(cbr))


def test_a_tag_that_claims_more_than_the_file(cbr: bytes) -> None:
    lying = b"ID3\x04\x00\x00\x7f\x7f\x7f\x7f" + bytes(100)
    np.testing.assert_array_equal(whole(lying + cbr), whole(cbr))


def test_gapless_information_gives_the_exact_length(cbr: bytes) -> None:
    for data in (cbr, mp3(SIGNAL, RATE, bit_rate=None)):
        got = decode(data, sample_rate=RATE, window_s=100, start=0.0)
        assert got.samples.size == len(SIGNAL)
        assert got.duration_s == 8.0
        assert lag(WANTED, got.samples) == 0


def test_a_xing_header_that_lies_about_the_length_is_not_believed(cbr: bytes) -> None:
    at = cbr.index(b"Info")
    lying = cbr[: at + 8] + b"\x00\x0f\x00\x00" + cbr[at + 12 :]
    np.testing.assert_array_equal(whole(lying), whole(cbr))


def test_a_gap_that_is_longer_than_the_file() -> None:
    data = bytearray(mp3(SIGNAL[:3000], RATE))
    at = data.index(b"Info") + 120 + 21
    data[at : at + 3] = b"\xff\xff\xff"
    with pytest.raises((EmptyAudio, AudioTooShort)):
        decode(bytes(data))


def test_every_window_costs_the_same_and_is_exact() -> None:
    signal = make.notes(40, 22_050)
    data = mp3(signal, 22_050, bit_rate=None)
    everything = decode(data, sample_rate=22_050, window_s=100, start=0.0).samples
    for start in (0.0, 0.013, 17.3, 39.0):
        got = decode(data, sample_rate=22_050, window_s=1.0, start=start)
        begin = round(start * 22_050)
        np.testing.assert_allclose(got.samples, everything[begin : begin + 22_050], atol=1e-6)


def test_a_stream_cut_within_a_frame_keeps_the_rest(cbr: bytes) -> None:
    got = whole(cbr[: len(cbr) // 2])
    assert got.size == pytest.approx(len(SIGNAL) / 2, abs=4000)
    # The cut-off file has no end to trim, and the last frame has none to overlap with.
    size = got.size - 4000
    np.testing.assert_allclose(got[:size], whole(cbr)[:size], atol=1e-6)


def test_a_hole_in_the_middle_costs_only_its_frames(cbr: bytes) -> None:
    at = len(cbr) // 2
    holed = cbr[:at] + bytes(3000) + cbr[at + 3000 :]
    got = whole(holed)
    assert got.size == pytest.approx(len(SIGNAL), abs=12 * 1152)
    early = got.size // 2 - 12 * 1152
    np.testing.assert_allclose(got[:early], whole(cbr)[:early], atol=1e-6)
    np.testing.assert_allclose(got[-RATE:], whole(cbr)[-RATE:], atol=1e-6)


def test_a_broken_frame_leaves_the_others_where_they_are(cbr: bytes, adts: bytes) -> None:
    rng = Random(1)  # noqa: S311
    for data in (cbr, adts):
        broken = bytearray(data)
        for _ in range(20):
            at = rng.randrange(20_000, 60_000)
            if broken[at - 1] != 0xFF and broken[at] != 0xFF:
                broken[at] ^= 0x55
        wanted, got = whole(data), whole(bytes(broken))
        assert abs(got.size - wanted.size) <= 20 * 1152
        assert snr_db(wanted[-RATE:], got[-RATE:]) > 20
    assert got.size


def test_two_files_in_one(cbr: bytes) -> None:
    got = whole(cbr + cbr)
    assert got.size == pytest.approx(2 * len(SIGNAL), abs=3 * 1152)


def test_streams_of_another_kind_behind_are_left_out(cbr: bytes) -> None:
    other = mp3(make.notes(3, 22_050), 22_050, bit_rate=64_000)
    assert abs(whole(cbr + other).size - len(SIGNAL)) <= 2 * 1152


def test_adts_with_an_id3_tag_and_cut_off(adts: bytes) -> None:
    np.testing.assert_array_equal(whole(id3v2(500) + adts), whole(adts))
    assert whole(adts[: len(adts) // 2]).size == pytest.approx(len(SIGNAL) / 2, abs=4000)


@pytest.mark.parametrize("frames", [1, 2])
def test_a_frame_or_two_are_too_short(cbr: bytes, frames: int) -> None:
    bare = mp3(SIGNAL, RATE, xing=False)
    with pytest.raises((AudioTooShort, CorruptAudio, EmptyAudio, UnsupportedAudio)):
        decode(bare[: 420 * frames])


def test_nothing_is_written_to_standard_error(cbr: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    rng = Random(0)  # noqa: S311
    broken = bytearray(cbr)
    for _ in range(300):
        broken[rng.randrange(5000, len(broken))] ^= 0xA5
    whole(bytes(broken))
    decode(cbr, window_s=1.0)
    assert capfd.readouterr() == ("", "")
