"""Reliability in bins, against scikit-learn and arithmetic, and held-out labels of a run."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
from sklearn.calibration import calibration_curve

from tests.evaluation.runs import write_run
from tests.support import make_bundle
from tunelab.encoder.bundle import Bundle
from tunelab.errors import BundleError
from tunelab.evaluation import metrics
from tunelab.evaluation.calibration import HeldOut, held_out, held_out_figures, reliability
from tunelab.training.labels import Labeller
from tunelab.types import HEADS

RNG = np.random.default_rng(5)


def _clips(n: int, groups: int) -> HeldOut:
    """Labels of 0 or 1 that are as likely as the scores say."""
    score = RNG.random(n).astype(np.float32)
    return HeldOut(score, (RNG.random(n) < score).astype(np.float32), RNG.integers(0, groups, n))


def test_bins_are_those_of_scikit_learn() -> None:
    held = _clips(503, 503)
    means, scores = calibration_curve(held.label, held.score, n_bins=10, strategy="quantile")
    bins = reliability(held)
    assert [part.label for part in bins] == pytest.approx(means.tolist(), abs=1e-6)
    assert [part.score for part in bins] == pytest.approx(scores.tolist(), abs=1e-6)
    assert sum(part.n for part in bins) == 503
    assert reliability(held) == bins


def test_interval_of_single_clips_is_that_of_a_mean() -> None:
    n = 4000
    held = HeldOut(RNG.random(n).astype(np.float32), RNG.random(n).astype(np.float32), np.arange(n))
    for part in reliability(held, draws=2000):
        half = 1.96 * np.sqrt(1 / 12 / part.n)
        assert (part.high - part.low) / 2 == pytest.approx(half, rel=0.15)
        assert part.low < part.label < part.high


def test_intervals_hold_the_truth_and_groups_widen_them() -> None:
    held = _clips(2000, 2000)
    inside = [part.low <= part.score <= part.high for part in reliability(held)]
    assert sum(inside) >= 8
    # Clips of a group share their error.
    groups = np.repeat(np.arange(20), 100)
    shifted = (held.label + np.repeat(RNG.normal(size=20), 100)).astype(np.float32)
    wide = [part.high - part.low for part in reliability(HeldOut(held.score, shifted, groups))]
    narrow = [part.high - part.low for part in reliability(HeldOut(held.score, shifted, np.arange(2000)))]
    assert min(np.array(wide) / narrow) > 1.3


def test_equal_scores_and_lonely_groups() -> None:
    label = np.array([0.0, 1.0, 1.0, 1.0], np.float32)
    [part] = reliability(HeldOut(np.full(4, 0.5, np.float32), label, np.arange(4)))
    assert (part.n, part.label, part.score) == (4, 0.75, 0.5)
    [part] = reliability(HeldOut(np.full(4, 0.5, np.float32), label, np.zeros(4, int)))
    assert part.groups == 1
    assert np.isnan([part.low, part.high]).all()


def test_held_out_clips_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = Bundle.open(make_bundle(tmp_path / "small-v1", layers=1))
    monkeypatch.setattr(metrics, "interval", partial(metrics.interval, draws=50))
    measured = []
    real = Labeller.measure
    monkeypatch.setattr(Labeller, "measure", lambda *arrays: measured.append(arrays) or real(*arrays))
    clips = held_out(bundle, write_run(tmp_path / "run"))
    assert tuple(clips) == HEADS
    assert all(held.score.shape == held.label.shape == (60,) for held in clips.values())
    # Labels are measured on the training clips: what is held out has no part in its own truth.
    assert len(measured) == 1
    # 6 packages, the last of which has 5 clips; each of voice alone is its own.
    rows = held_out_figures(clips)
    assert [(row["n"], row["groups"]) for row in rows] == [(60, 11)] * 6
    assert set(rows[0]["measures"]) == {"pearson_r", "spearman", "ccc", "rmse"}
    assert sum(part["n"] for part in rows[0]["bins"]) == 60


def test_runs_that_do_not_fit(tmp_path: Path) -> None:
    bundle = Bundle.open(make_bundle(tmp_path / "small-v1", layers=1))
    with pytest.raises(BundleError, match=r"nowhere has no readable embeddings\.safetensors"):
        held_out(bundle, tmp_path / "nowhere")
    with pytest.raises(BundleError, match="embeddings of 32 numbers, not 768"):
        held_out(bundle, write_run(tmp_path / "run", width=32))
