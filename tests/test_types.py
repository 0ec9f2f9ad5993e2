"""Plain data: rounding in one place, identities, immutability."""

from __future__ import annotations

import dataclasses
import hashlib
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunelab.types import EMBEDDING_SIZE, HEADS, Analysis, Features, Waveform, content_id, percent


def test_six_heads_in_the_order_of_every_answer() -> None:
    assert HEADS == ("energy", "danceability", "happiness", "acousticness", "instrumentalness", "speechiness")
    assert EMBEDDING_SIZE == 768


@pytest.mark.parametrize(
    ("score", "points"),
    [(0.0, 0), (1.0, 100), (0.004999, 0), (0.0051, 1), (0.824, 82), (0.826, 83), (0.994, 99), (0.9951, 100), (1e-9, 0)],
)
def test_percent_rounds_to_the_nearest(score: float, points: int) -> None:
    assert percent({"energy": score}) == {"energy": points}


@settings(derandomize=True, database=None)
@given(st.dictionaries(st.sampled_from(HEADS), st.floats(0, 1)))
def test_percent_is_within_half_a_point_and_ordered(scores: dict[str, float]) -> None:
    points = percent(scores)
    assert list(points) == [head for head in HEADS if head in scores]
    for head, value in points.items():
        assert type(value) is int
        assert 0 <= value <= 100
        assert abs(value - 100 * scores[head]) <= 0.5 + 1e-9


def test_percent_takes_numpy_numbers_and_leaves_other_names_out() -> None:
    points = percent({"loudness": 0.5, "energy": float(np.float32(0.42))})
    assert points == {"energy": 42}
    assert type(percent({"energy": np.float32(0.42)})["energy"]) is int  # type: ignore[dict-item]


def test_analysis_gives_percent() -> None:
    analysis = Analysis({"happiness": 0.64, "energy": 0.816}, np.zeros(768, np.float32), 12.5, "test")
    assert list(analysis.percent().items()) == [("energy", 82), ("happiness", 64)]


def test_content_id_is_the_sha256_of_the_bytes() -> None:
    assert content_id(b"") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert content_id(b"track") == hashlib.sha256(b"track").hexdigest()
    assert content_id(b"a") != content_id(b"b")


@pytest.mark.parametrize(
    ("value", "field"),
    [
        (Waveform(np.zeros(1, np.float32), 16_000, 0.0, 1.0), "sample_rate"),
        (Features(np.zeros((1, 1), np.float32), 1.0), "duration_s"),
        (Analysis({}, np.zeros(1, np.float32), 1.0, "test"), "model"),
    ],
)
def test_values_cannot_be_changed(value: object, field: str) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(value, field, 3)


def test_leaf_modules_import_nothing_of_ours() -> None:
    code = (
        "import sys, tunelab.types, tunelab.errors\n"
        "ours = {name for name in sys.modules if name.startswith('tunelab.')}\n"
        "assert ours == {'tunelab.types', 'tunelab.errors'}, ours\n"
        "import tunelab.settings\n"
        "ours = {name for name in sys.modules if name.startswith('tunelab.')}\n"
        "assert ours == {'tunelab.types', 'tunelab.errors', 'tunelab.settings'}, ours\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
