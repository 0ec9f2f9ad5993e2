"""The figure of a report: for every kind and number of classes, and for any label."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.image import imread

from tunelab.classifier.figures import report
from tunelab.classifier.plot import plot_report
from tunelab.errors import ClassifierError


def made_up(classes: int, kind: Any = "multiclass") -> dict[str, Any]:
    rng = np.random.default_rng(0)
    names = ("日本 music", "$x_{$ & <b>", *(f"class {number}" for number in range(classes - 2)))
    truth = np.eye(classes, dtype=bool)[rng.integers(0, classes, 20 * classes)]
    predicted = np.where(rng.random((len(truth), 1)) < 0.8, truth, np.roll(truth, 1, axis=1))
    figures = report(kind, names, truth, predicted, truth[0], draws=50)
    rows = [{"label": name, **row} for name, row in zip(names, figures["per_class"], strict=True)]
    return {**figures, "kind": kind, "classes": list(names), "n": {"test": len(truth)}, "per_class": rows}


@pytest.mark.parametrize(
    ("classes", "kind"), [(2, "multiclass"), (12, "multiclass"), (60, "multiclass"), (5, "multilabel")]
)
def test_figures_are_drawn(tmp_path: Path, classes: int, kind: str) -> None:
    figures = made_up(classes, kind)
    plot_report(figures, tmp_path / "a.png")
    image = imread(tmp_path / "a.png")
    assert min(image.shape[:2]) > 300
    assert image[..., :3].std() > 0.05
    plot_report(figures, tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(ClassifierError, match=r"a\.png cannot be written: No such file"):
        plot_report(made_up(2), tmp_path / "nowhere" / "a.png")
