"""Damaged files of every format give a waveform or a typed error, in time. Never anything else."""

from __future__ import annotations

import time
from random import Random

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.audio.formats import FORMATS, sample
from tests.audio.mutate import mutate
from tunelab.audio.decode import DecodeLimits, decode
from tunelab.errors import AudioError

TIMEOUT_S = 2.0
quick = settings(derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck))
names = st.sampled_from(list(FORMATS))


def check(data: bytes, window_s: float = 30.0) -> None:
    begin = time.monotonic()
    try:
        got = decode(data, window_s=window_s, limits=DecodeLimits(timeout_s=TIMEOUT_S))
    except AudioError as error:
        assert error.message  # noqa: PT017
    else:
        assert got.samples.dtype == np.float32
        assert 0 < got.samples.size <= round(window_s * 16_000)
        assert np.isfinite(got.samples).all()
        assert got.start_s >= 0
        assert got.duration_s > 0
    # Between two looks at the clock there is little work, but the machine may be busy.
    assert time.monotonic() - begin < 2 * TIMEOUT_S


@settings(quick, max_examples=150)
@given(name=names, share=st.floats(0, 1))
def test_cut_off(name: str, share: float) -> None:
    data = sample(name).data
    check(data[: int(share * len(data))])


@settings(quick, max_examples=300)
@given(name=names, other=names, seed=st.integers(0, 2**32), window_s=st.sampled_from([30.0, 1.0]))
def test_damaged(name: str, other: str, seed: int, window_s: float) -> None:
    check(mutate(sample(name).data, sample(other).data, Random(seed)), window_s)  # noqa: S311


@settings(quick, max_examples=200)
@given(
    head=st.sampled_from([b"", b"RIFF\0\0\0\0WAVEfmt ", b"fLaC\0\0\0\x22", b"OggS\0\x02"])
    | st.sampled_from([b"ID3\x04\0\0\0\0\0\x0a", b"\xff\xfb\x90\x64", b"\xff\xf1\x50\x80", b"\0\0\0\x18ftypisom"])
    | st.sampled_from([b"\x1a\x45\xdf\xa3\x9f", b"FORM\0\0\0\0AIFFCOMM", b".snd\0\0\0\x18", b"caff\0\1\0\0desc"]),
    tail=st.binary(max_size=400),
)
def test_any_bytes_behind_a_magic_number(head: bytes, tail: bytes) -> None:
    check(head + tail)
