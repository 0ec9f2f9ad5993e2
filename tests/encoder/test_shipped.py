"""The shipped bundle on real music: every engine and precision gives the scores of the reference, within a point."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.encoder.conftest import cosines
from tests.encoder.test_openvino import NATIVE_BF16
from tunelab.audio.extract import MelExtractor
from tunelab.encoder import Bundle, EngineName, load_engine
from tunelab.heads import load_heads
from tunelab.types import FloatArray

MUSIC = [Path(__file__).parents[1] / "data" / name for name in ("loud.mp3", "calm.opus")]


@pytest.fixture(scope="module")
def windows(shipped: Bundle) -> FloatArray:
    extract = MelExtractor(shipped.mel)
    return np.stack([extract(path).mel for path in MUSIC])


@pytest.fixture(scope="module")
def exact(shipped: Bundle, windows: FloatArray) -> FloatArray:
    return load_engine(shipped, "torch", threads=2, precision="f32")(windows)


@pytest.mark.parametrize(
    ("engine", "precision", "cosine", "points"),
    [
        ("openvino", "f32", 0.99999, 0.1),
        ("openvino", "bf16", 0.999, 1.0),
        ("openvino", "int8", 0.99, 2.0),
        ("torch", "bf16", 0.999, 1.0),
    ],
)
def test_scores_are_those_of_the_reference(
    shipped: Bundle,
    windows: FloatArray,
    exact: FloatArray,
    engine: EngineName,
    precision: str,
    cosine: float,
    points: float,
) -> None:
    if precision == "bf16" and not NATIVE_BF16:
        pytest.skip("this CPU has no bf16")  # PyTorch would emulate it, for most of a minute
    # One thread: a second would have OpenVINO compile a second model.
    got = load_engine(shipped, engine, threads=1, precision=precision)(windows)
    assert cosines(got, exact).min() > cosine
    heads = load_heads(shipped)
    for left, right in zip(got, exact, strict=True):
        scores, wanted = heads(left), heads(right)
        assert scores.keys() == wanted.keys()
        for head in wanted:
            assert 100 * abs(scores[head] - wanted[head]) < points, head


def test_loud_music_has_more_energy_than_calm_music(shipped: Bundle, exact: FloatArray) -> None:
    heads = load_heads(shipped)
    energy = {path.stem: heads(embedding).get("energy") for path, embedding in zip(MUSIC, exact, strict=True)}
    if energy["loud"] is None or energy["calm"] is None:
        pytest.skip("the bundle ships no energy head")
    assert energy["loud"] > energy["calm"]
