import numpy as np
import pytest
from scipy import stats

from tunelab.evaluation.metrics import auc, ccc, interval, pearson, rmse, spearman

RNG = np.random.default_rng(3)
A = RNG.normal(size=60)
B = np.round(A + RNG.normal(size=60), 1)


def test_correlations_equal_scipys() -> None:
    assert pearson(A, B) == pytest.approx(stats.pearsonr(A, B).statistic)
    assert spearman(A, B) == pytest.approx(stats.spearmanr(A, B).statistic)


def test_golden_values() -> None:
    score, truth = np.array([1.0, 2.0, 3.0]), np.array([2.0, 3.0, 4.0])
    assert pearson(score, truth) == pytest.approx(1.0)
    # Lin 1989: 2 cov / (var + var + shift^2) = 2 * 2/3 / (2/3 + 2/3 + 1)
    assert ccc(score, truth) == pytest.approx(4 / 7)
    assert rmse(score, truth) == pytest.approx(1.0)


def test_auc_counts_pairs_and_ties() -> None:
    assert auc(np.array([0.1, 0.4, 0.35, 0.8]), np.array([0.0, 0.0, 1.0, 1.0])) == pytest.approx(0.75)
    assert auc(np.array([0.5, 0.5]), np.array([0.0, 1.0])) == pytest.approx(0.5)
    assert np.isnan(auc(np.array([0.5, 0.6]), np.array([1.0, 1.0])))


def test_constant_scores_have_no_correlation() -> None:
    assert np.isnan(pearson(np.ones(5), np.arange(5.0)))


def test_interval_holds_the_value_and_repeats() -> None:
    low, high = interval(pearson, A, B)
    assert low < pearson(A, B) < high
    assert interval(pearson, A, B) == (low, high)


def test_groups_widen_the_interval() -> None:
    groups = np.repeat(np.arange(6), 10)
    shift = np.repeat(RNG.normal(size=6) * 5, 10)
    single = interval(pearson, A + shift, B + 2 * A + shift, draws=300)
    grouped = interval(pearson, A + shift, B + 2 * A + shift, groups, draws=300)
    assert grouped[1] - grouped[0] > single[1] - single[0]


def test_an_interval_of_nothing_is_nothing() -> None:
    low, high = interval(pearson, np.ones(5), np.arange(5.0))
    assert np.isnan(low)
    assert np.isnan(high)
