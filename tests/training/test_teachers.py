"""vibenet's answers by our names; vibenet itself is no dependency, so that it is stood in for."""

import io

import numpy as np
import pytest

from tunelab.training.teachers import ATTRIBUTES, Labels, Vibenet
from tunelab.types import HEADS, FloatArray


class Tenths(Vibenet):
    """Scores 0.1, 0.2 .. in the teacher's order, for a file of the bytes ``song``."""

    def __init__(self) -> None:
        self._load = lambda file: np.frombuffer(file.read(), np.uint8)

    def __call__(self, samples: FloatArray) -> Labels:
        assert bytes(samples.astype(np.uint8)) == b"song"
        scores = np.arange(1, len(ATTRIBUTES) + 1, dtype=np.float32) / 10
        return Labels(np.zeros((1, 1280), np.float32), np.zeros(256, np.float32), scores)


def test_scores_of_a_file_have_the_names_of_the_heads() -> None:
    scores = Tenths().of_file(io.BytesIO(b"song").getvalue())
    assert set(scores) == set(HEADS)
    assert scores["happiness"] == pytest.approx(0.1 * (1 + ATTRIBUTES.index("valence")))
    assert scores["energy"] == pytest.approx(0.1 * (1 + ATTRIBUTES.index("energy")))
