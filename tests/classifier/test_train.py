"""What a classifier learns, what it does not learn from noise, and that it learns the same twice."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.classifier.support import made, single
from tunelab.classifier.labels import Labels, from_mapping
from tunelab.classifier.model import Classifier
from tunelab.classifier.train import Trained, train
from tunelab.errors import ClassifierError

MADE_BY = {"model": "small-v1", "revision": "abc"}


def fitted(embeddings: np.ndarray, labels: Labels, seed: int = 0) -> Trained:
    return train(embeddings, labels, **MADE_BY, seed=seed)


def test_reaches_what_can_be_reached() -> None:
    embeddings, truth, best = made(3000, 5)
    report = fitted(embeddings, single(truth)).report
    low, high = report["accuracy"]["ci95"]
    assert 0.85 < best < 0.97
    assert low <= best <= high
    assert abs(report["accuracy"]["value"] - best) < 0.03
    assert report["baseline"]["accuracy"] < 0.3
    assert sum(report["n"].values()) == 3000
    assert report["n"]["test"] == pytest.approx(600, abs=3)


def test_noise_teaches_nothing() -> None:
    embeddings, truth, _ = made(2000, 4, shares=[0.4, 0.2, 0.2, 0.2])
    shuffled = np.random.default_rng(1).permutation(truth)
    report = fitted(embeddings, single(shuffled)).report
    assert report["baseline"]["always"] == ["c0"]
    assert report["accuracy"]["value"] < report["baseline"]["accuracy"] + 0.02
    assert report["macro_f1"]["value"] < 0.3


def test_rare_classes_are_not_forgotten() -> None:
    """Where all tracks count alike, these recalls are 0.33 and 0.65."""
    embeddings, truth, _ = made(1500, 2, shares=[0.9, 0.1], distance=0.6)
    assert fitted(embeddings, single(truth)).report["per_class"][1]["recall"]["value"] > 0.6
    embeddings, truth, _ = made(1500, 6, distance=0.5)
    labels = from_mapping({f"t{number}": [f"c{value}"] if value else [] for number, value in enumerate(truth)})
    assert np.mean([row["recall"]["value"] for row in fitted(embeddings, labels).report["per_class"]]) > 0.7


def test_the_same_twice_whoever_calls() -> None:
    embeddings, truth, _ = made(300, 3)
    labels = single(truth)
    first = fitted(embeddings, labels)
    torch.manual_seed(99)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    state = torch.get_rng_state()
    again = fitted(embeddings, labels)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == 2
    torch.set_num_threads(threads)
    assert first.classifier.to_bytes() == again.classifier.to_bytes()
    assert first.report == again.report
    assert fitted(embeddings, labels, seed=1).classifier.to_bytes() != first.classifier.to_bytes()


def test_standardisation_is_in_the_weights() -> None:
    """Scaled and moved embeddings give the same classifier, but for rounding: it takes them as they are."""
    embeddings, truth, _ = made(300, 3)
    plain = fitted(embeddings, single(truth)).classifier
    moved = fitted(50 * embeddings - 700, single(truth)).classifier
    difference = plain.probabilities(embeddings) - moved.probabilities(50 * embeddings - 700)
    assert np.abs(difference).max() < 0.02


def test_the_figures_are_of_the_file_itself() -> None:
    embeddings, truth, _ = made(500, 3)
    trained = fitted(embeddings, single(truth))
    again = Classifier.from_bytes(trained.classifier.to_bytes())
    assert np.array_equal(again.probabilities(embeddings), trained.classifier.probabilities(embeddings))
    assert again.summary == {name: trained.report[name] for name in ("n", "accuracy", "macro_f1", "baseline")}
    right = again.probabilities(embeddings).argmax(axis=1) == truth
    # Of 500 tracks the 100 that were held out are as right as the report says; the others can only be better.
    assert trained.report["accuracy"]["value"] <= right.mean() + 0.02


def test_several_labels() -> None:
    embeddings, truth, _ = made(1500, 4, distance=1.2)
    given = {f"t{n}": ([f"c{k}"] if k else []) + (["even"] if k % 2 == 0 else []) for n, k in enumerate(truth)}
    trained = fitted(embeddings, from_mapping(given))
    assert trained.report["classes"] == ["c1", "c2", "c3", "even"]
    assert trained.report["accuracy"]["value"] > 0.85
    assert trained.report["baseline"]["accuracy"] < 0.4
    decided = trained.classifier.decide(trained.classifier.probabilities(embeddings))
    assert set(decided.sum(axis=1)) >= {1, 2}


def test_groups_stay_together() -> None:
    """Tracks of one group are all alike and their class is noise: only a leak could tell it."""
    rng = np.random.default_rng(3)
    group = rng.integers(0, 60, 900)
    embeddings = (rng.normal(size=(60, 768))[group] + 0.05 * rng.normal(size=(900, 768))).astype(np.float32)
    truth = rng.integers(0, 3, 60)[group]
    leaking = fitted(embeddings, single(truth)).report
    honest = fitted(embeddings, single(truth, [f"artist {value}" for value in group])).report
    assert leaking["accuracy"]["value"] > 0.95
    assert honest["accuracy"]["value"] < 0.65
    assert (leaking["groups"], honest["groups"]) == (None, 60)
    width = [report["accuracy"]["ci95"][1] - report["accuracy"]["ci95"][0] for report in (leaking, honest)]
    assert width[1] > 0.15  # twelve groups are not 180 tracks


def test_embeddings_that_make_no_sense() -> None:
    embeddings, truth, _ = made(40, 2)
    labels = single(truth)
    with pytest.raises(ClassifierError, match="40 labelled tracks need as many embeddings, not 39"):
        fitted(embeddings[1:], labels)
    embeddings[3, 5] = np.nan
    with pytest.raises(ClassifierError, match="not finite"):
        fitted(embeddings, labels)
    embeddings[3, 5] = 3e38  # finite, and so large that nothing else counts
    assert np.isfinite(fitted(embeddings, labels).report["accuracy"]["value"])
    assert fitted(np.zeros_like(embeddings), labels).report["accuracy"]["value"] < 0.8
