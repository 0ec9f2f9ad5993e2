"""Every format: what went into the encoder comes out of the decoder, at its place."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest

from tests.audio.formats import FORMATS, SECONDS, sample
from tests.audio.make import lag, snr_db
from tunelab.audio.decode import decode
from tunelab.types import Waveform

WHOLE = 10 * SECONDS
WHOLE_FRAMES = {"mp2", "wav-gsm", "wav-g721", "wav-ima-adpcm", "wav-ms-adpcm", "mp4-fragmented", "caf-alac"}
"""Their length is rounded up to whole frames, and nothing in the file tells by how much."""


@cache
def whole_of(name: str) -> Waveform:
    file = sample(name)
    return decode(file.data, sample_rate=file.rate, window_s=WHOLE, start=0.0)


@pytest.mark.parametrize("name", FORMATS)
def test_sound_survives_at_its_place(name: str) -> None:
    file = sample(name)
    got = whole_of(name)
    late = lag(file.wanted, got.samples)
    allowed = range(-file.lag, file.lag + 1) if 0 < file.lag < 100 else (file.lag,)
    assert late in allowed
    wanted = file.wanted[max(0, -late) :]
    # The first and last frames of lossy codecs have nothing to overlap with.
    assert snr_db(wanted[3000:-3000], got.samples[max(0, late) :][3000:]) > file.snr_db
    assert got.samples.dtype == np.float32
    assert got.sample_rate == file.rate
    # Codecs with frames of fixed length round up, but for those that say where the sound ends.
    assert got.duration_s == pytest.approx(SECONDS, abs=0.1)


@pytest.mark.parametrize("name", [name for name in FORMATS if FORMATS[name][4] == 0 and name not in WHOLE_FRAMES])
def test_length_is_exact_where_the_file_tells(name: str) -> None:
    file = sample(name)
    got = whole_of(name)
    assert got.samples.size == file.wanted.size


@pytest.mark.parametrize("name", FORMATS)
def test_path_and_bytes_give_the_same_samples(name: str, tmp_path: Path) -> None:
    file = sample(name)
    path = tmp_path / "no extension helps"
    path.write_bytes(file.data)
    from_bytes, from_path = decode(file.data, window_s=2.0), decode(path, window_s=2.0)
    np.testing.assert_array_equal(from_bytes.samples, from_path.samples)
    assert (from_bytes.start_s, from_bytes.duration_s) == (from_path.start_s, from_path.duration_s)
    np.testing.assert_array_equal(decode(bytearray(file.data), window_s=2.0).samples, from_bytes.samples)
    np.testing.assert_array_equal(decode(memoryview(file.data), window_s=2.0).samples, from_bytes.samples)


@pytest.mark.parametrize("start", [None, 0.9, 3.7])
@pytest.mark.parametrize("name", FORMATS)
def test_window_is_that_part_of_the_whole(name: str, start: float | None) -> None:
    file = sample(name)
    whole = whole_of(name).samples
    got = decode(file.data, sample_rate=file.rate, window_s=1.3, start=start)
    begin = round(got.start_s * file.rate)
    if start is None:
        # Containers count in milliseconds, or count the encoder's delay.
        tolerance = 1 if file.exact else 0.015 * file.rate
        assert begin == pytest.approx((whole.size - got.samples.size) / 2, abs=tolerance)
    else:
        assert begin == round(start * file.rate)
    clock = file.lag if file.lag < 100 else 0
    assert got.samples.size == pytest.approx(min(round(1.3 * file.rate), whole.size - begin), abs=clock)
    part = whole[begin : begin + got.samples.size]
    if file.exact:
        np.testing.assert_allclose(got.samples, part, atol=1e-6)
    elif clock:
        assert abs(late := lag(part, got.samples, 200)) <= 2 * clock
        assert snr_db(np.roll(part, late)[500:-500], got.samples[500:-500]) > 30
    else:
        assert snr_db(part, got.samples) > 25
        assert lag(part, got.samples, 200) == 0


@pytest.mark.parametrize("name", FORMATS)
def test_tags_of_mp3_around_other_formats_are_passed_over(name: str) -> None:
    file = sample(name)
    tag = b"ID3\x03\0\0\0\0\x02\0" + bytes(256)
    wanted = decode(file.data, window_s=1.0, start=2.0).samples
    # MP4 begins with zeros itself, which cannot be told from padding.
    padding = b"" if name.startswith(("m4a", "mp4", "mov")) else bytes(64)
    for data in (tag + file.data, tag + padding + file.data, tag + file.data + b"TAG" + bytes(125)):
        # Not the middle: W64 and GSM take the track's length from that of the file.
        np.testing.assert_allclose(decode(data, window_s=1.0, start=2.0).samples, wanted, atol=1e-6)
