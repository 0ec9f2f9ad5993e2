import numpy as np
import pytest

from tunelab.evaluation.embedding import (
    compare,
    mel_statistics,
    neighbour_agreement,
    participation_ratio,
    probe_accuracy,
)
from tunelab.types import FloatArray


def clouds(spread: float) -> tuple[FloatArray, np.ndarray]:
    """Three classes around three corners of a cube."""
    rng = np.random.default_rng(0)
    labels = np.repeat(["a", "b", "c"], 40)
    centres = {"a": 0, "b": 1, "c": 2}
    features = spread * rng.normal(size=(120, 6)).astype(np.float32)
    for row, label in enumerate(labels):
        features[row, centres[label]] += 1
    return features, labels


def test_effective_dimensions() -> None:
    rng = np.random.default_rng(0)
    assert participation_ratio(rng.normal(size=(5000, 12)).astype(np.float32)) == pytest.approx(12, rel=0.02)
    line = np.outer(rng.normal(size=100), np.ones(12)).astype(np.float32)
    assert participation_ratio(line) == pytest.approx(1)


def test_a_probe_reads_what_is_there_and_nothing_else() -> None:
    features, labels = clouds(0.1)
    assert probe_accuracy(features, labels) > 0.98
    shuffled = np.random.default_rng(1).permutation(labels)
    assert probe_accuracy(features, shuffled) < 0.5


def test_neighbours_are_of_the_same_class_only_where_classes_are_apart() -> None:
    assert neighbour_agreement(*clouds(0.05)) == 1.0
    assert neighbour_agreement(*clouds(50.0)) < 0.55


def test_rare_classes_are_left_out() -> None:
    features, labels = clouds(0.1)
    labels = labels.copy()
    labels[:3] = "rare"
    rows = compare({"x": features}, labels)
    assert rows["x"]["probe"] > 0.98
    assert rows["x"]["neighbour"] == pytest.approx(1.0, abs=0.02)


def test_statistics_of_a_mel() -> None:
    mel = np.stack([np.arange(4.0), np.arange(4.0) + 2]).astype(np.float32)
    np.testing.assert_allclose(mel_statistics(mel), [1, 2, 3, 4, 1, 1, 1, 1])
