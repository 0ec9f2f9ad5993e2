"""Figures against scikit-learn, and their intervals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.metrics import (
    accuracy_score,
    confusion_matrix,
    f1_score,
    multilabel_confusion_matrix,
    precision_recall_fscore_support,
)

from tunelab.classifier.figures import report

CLASSES = ("a", "b", "c", "d")


def answers(several: bool, n: int = 300, seed: int = 0) -> tuple[Any, Any]:
    """Truth and predictions, right in about two thirds; ``d`` is never predicted."""
    rng = np.random.default_rng(seed)
    if several:
        truth = rng.random((n, 4)) < [0.5, 0.3, 0.2, 0.1]
        predicted = truth ^ (rng.random((n, 4)) < 0.15)
    else:
        place = rng.choice(4, n, p=[0.4, 0.3, 0.2, 0.1])
        truth = np.eye(4, dtype=bool)[place]
        predicted = np.eye(4, dtype=bool)[np.where(rng.random(n) < 0.6, place, rng.integers(0, 3, n)) % 3]
    predicted[:, 3] = False
    if not several:
        predicted[~predicted.any(axis=1), 0] = True
    return truth, predicted


@pytest.mark.parametrize("several", [False, True])
def test_as_scikit_learn_has_it(several: bool) -> None:
    truth, predicted = answers(several)
    always = np.array([True, False, False, False])
    found = report("multilabel" if several else "multiclass", CLASSES, truth, predicted, always)
    y, z = (truth, predicted) if several else (truth.argmax(axis=1), predicted.argmax(axis=1))
    precision, recall, f1, support = precision_recall_fscore_support(y, z, zero_division=0)
    rows = found["per_class"]
    for name, values in (("precision", precision), ("recall", recall), ("f1", f1)):
        assert [row[name]["value"] for row in rows] == pytest.approx(values, abs=1e-4)
    assert [row["n_test"] for row in rows] == support.tolist()
    assert found["accuracy"]["value"] == pytest.approx(accuracy_score(y, z), abs=1e-4)
    assert found["macro_f1"]["value"] == pytest.approx(f1_score(y, z, average="macro", zero_division=0), abs=1e-4)
    constant = np.tile(always, (len(truth), 1))
    given = constant if several else constant.argmax(axis=1)
    assert found["baseline"] == {
        "always": ["a"],
        "accuracy": pytest.approx(accuracy_score(y, given), abs=1e-4),
        "macro_f1": pytest.approx(f1_score(y, given, average="macro", zero_division=0), abs=1e-4),
    }
    if several:
        cells = multilabel_confusion_matrix(y, z).reshape(4, 4).T.tolist()
        assert [found["confusion"][name] for name in ("tn", "fp", "fn", "tp")] == cells
    else:
        assert found["confusion"]["counts"] == confusion_matrix(y, z).tolist()


def test_intervals_are_those_of_a_plain_bootstrap() -> None:
    truth, predicted = answers(False)
    found = report("multiclass", CLASSES, truth, predicted, truth[0])
    y, z = truth.argmax(axis=1), predicted.argmax(axis=1)
    rng = np.random.default_rng(5)
    drawn: dict[str, list[float]] = {"accuracy": [], "macro_f1": [], "recall": [], "share": []}
    for _ in range(1000):
        index = rng.integers(0, len(y), len(y))
        drawn["accuracy"].append(float((y[index] == z[index]).mean()))
        t, p = truth[index], predicted[index]
        drawn["macro_f1"].append(float(np.mean(2 * (t & p).sum(axis=0) / (t.sum(axis=0) + p.sum(axis=0)))))
        drawn["recall"].append(float((z[index] == 1)[y[index] == 1].mean()))
        drawn["share"].append(float((z[index] == 2)[y[index] == 0].mean()))
    figures = {
        "accuracy": found["accuracy"]["ci95"],
        "macro_f1": found["macro_f1"]["ci95"],
        "recall": found["per_class"][1]["recall"]["ci95"],
        "share": found["confusion"]["ci95"][0][2],
    }
    for name, values in drawn.items():
        assert figures[name] == pytest.approx(np.percentile(values, [2.5, 97.5]), abs=0.012), name


def test_whole_groups_are_drawn() -> None:
    """Each track ten times is no more knowledge than once."""
    truth, predicted = answers(False, n=60)
    once = report("multiclass", CLASSES, truth, predicted, truth[0])["accuracy"]
    ten = [np.repeat(part, 10, axis=0) for part in (truth, predicted)]
    groups = np.repeat(np.arange(60), 10)
    together = report("multiclass", CLASSES, *ten, truth[0], groups)["accuracy"]
    apart = report("multiclass", CLASSES, *ten, truth[0])["accuracy"]
    assert together == once
    assert apart["ci95"][1] - apart["ci95"][0] < 0.5 * (once["ci95"][1] - once["ci95"][0])


def test_a_class_on_a_single_track() -> None:
    truth = np.eye(3, dtype=bool)[[0, 0, 0, 1, 1, 2]]
    found = report("multiclass", ("a", "b", "c"), truth, truth, truth[0])
    assert found["per_class"][2]["recall"] == {"value": 1.0, "ci95": [1.0, 1.0]}
    assert found["macro_f1"]["value"] == 1.0


def test_large_matrices_are_left_out() -> None:
    truth = np.eye(31, dtype=bool)
    names = tuple(str(number) for number in range(31))
    assert report("multiclass", names, truth, truth, truth[0], draws=10)["confusion"] is None
