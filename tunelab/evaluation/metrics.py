"""Agreement between scores and truth, with 95 % intervals that resample whole groups (packages, artists)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

Values = npt.NDArray[np.floating[Any]]
Metric = Callable[[Values, Values], float]


def pearson(score: Values, truth: Values) -> float:
    """Linear correlation, -1..1; NaN when either side is constant."""
    a, b = np.asarray(score, dtype=np.float64), np.asarray(truth, dtype=np.float64)
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / scale if scale > 0 else float("nan")


def spearman(score: Values, truth: Values) -> float:
    """Correlation of ranks (ties share their mean rank), -1..1; NaN when either side is constant."""
    return pearson(rankdata(score), rankdata(truth))


def ccc(score: Values, truth: Values) -> float:
    """Lin's concordance correlation: 1 only when the values themselves agree, not just their order."""
    a, b = np.asarray(score, dtype=np.float64), np.asarray(truth, dtype=np.float64)
    covariance = float(np.mean((a - a.mean()) * (b - b.mean())))
    scale = float(a.var() + b.var() + (a.mean() - b.mean()) ** 2)
    return 2 * covariance / scale if scale > 0 else float("nan")


def rmse(score: Values, truth: Values) -> float:
    """Root mean square error in the unit of the scores."""
    return float(np.sqrt(np.mean(np.square(np.asarray(score, np.float64) - np.asarray(truth, np.float64)))))


def auc(score: Values, truth: Values) -> float:
    """Chance that a clip of truth 1 scores above one of truth 0; ties count half. NaN without both classes."""
    positive = np.asarray(truth) > 0.5
    n1, n0 = int(positive.sum()), int((~positive).sum())
    if not n1 or not n0:
        return float("nan")
    return float((rankdata(score)[positive].sum() - n1 * (n1 + 1) / 2) / (n1 * n0))


def interval(
    metric: Metric,
    score: Values,
    truth: Values,
    groups: npt.NDArray[Any] | None = None,
    *,
    draws: int = 1000,
    seed: int = 0,
) -> tuple[float, float]:
    """95 % bootstrap interval of a metric.

    Args:
        metric: one of this module.
        score: shape ``(n,)``.
        truth: shape ``(n,)``.
        groups: shape ``(n,)``; whole groups are drawn, since clips of one are alike. Without it, single clips.

    Returns:
        The 2.5th and 97.5th percentile over ``draws`` resamples; the same for the same seed. NaN where the metric is
        not defined on any of them, and where there is one group, of which all resamples are alike.
    """
    score, truth = np.asarray(score), np.asarray(truth)
    labels = np.arange(len(score)) if groups is None else np.unique(groups, return_inverse=True)[1]
    members = [np.flatnonzero(labels == group) for group in range(int(labels.max()) + 1)]
    # Of single clips the draw itself is the index; it is also much quicker.
    alone = np.concatenate(members) if len(members) == len(score) else None
    if len(members) < 2:
        return float("nan"), float("nan")
    rng = np.random.default_rng(seed)
    values = []
    for _ in range(draws):
        drawn = rng.integers(0, len(members), len(members))
        index = np.concatenate([members[k] for k in drawn]) if alone is None else alone[drawn]
        values.append(metric(score[index], truth[index]))
    if np.isnan(values).all():
        return float("nan"), float("nan")
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return float(low), float(high)


AGREEMENT: Mapping[str, Metric] = {"pearson_r": pearson, "spearman": spearman, "ccc": ccc, "rmse": rmse}
"""All four measures of a score against a truth on the same scale."""


def with_intervals(
    metrics: Mapping[str, Metric], score: Values, truth: Values, groups: npt.NDArray[Any] | None = None
) -> dict[str, dict[str, Any]]:
    """Several metrics of the same clips, each ``{"value": .., "ci95": [low, high]}`` to four digits.

    The intervals are those of :func:`interval`; every metric sees the same resamples.
    """
    figures = {}
    for name, metric in metrics.items():
        low, high = interval(metric, score, truth, groups)
        figures[name] = {"value": round(metric(score, truth), 4), "ci95": [round(low, 4), round(high, 4)]}
    return figures
