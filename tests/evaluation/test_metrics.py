import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import mean_squared_error, roc_auc_score

from tunelab.evaluation.metrics import AGREEMENT, Metric, auc, ccc, interval, pearson, rmse, spearman, with_intervals

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


def test_one_group_has_no_interval() -> None:
    rng = np.random.default_rng(0)
    score = rng.normal(size=50)
    assert np.isnan(interval(pearson, score, score + rng.normal(size=50), np.zeros(50))).all()


def test_an_interval_of_nothing_is_nothing() -> None:
    low, high = interval(pearson, np.ones(5), np.arange(5.0))
    assert np.isnan(low)
    assert np.isnan(high)


def test_agreement_equals_independent_computations() -> None:
    # Two fixed series of 12, so that the numbers themselves are held as well.
    score = np.array([0.91, 0.35, 0.60, 0.12, 0.55, 0.80, 0.42, 0.67, 0.20, 0.95, 0.05, 0.50])
    truth = np.array([0.80, 0.40, 0.75, 0.20, 0.40, 0.90, 0.30, 0.60, 0.35, 0.85, 0.15, 0.70])
    covariance = np.cov(score, truth, ddof=0)
    wanted = {
        "pearson_r": stats.linregress(score, truth).rvalue,
        "spearman": stats.spearmanr(score, truth).statistic,
        "ccc": 2 * covariance[0, 1] / (np.trace(covariance) + (score.mean() - truth.mean()) ** 2),
        "rmse": mean_squared_error(truth, score) ** 0.5,
    }
    for name, metric in AGREEMENT.items():
        assert metric(score, truth) == pytest.approx(wanted[name], abs=1e-12)
    assert [round(wanted[name], 3) for name in AGREEMENT] == [0.907, 0.914, 0.898, 0.122]


def test_auc_equals_scikit_learns() -> None:
    truth = (RNG.random(200) > 0.6).astype(float)
    score = np.round(0.3 * truth + RNG.random(200), 1)  # with ties
    assert auc(score, truth) == pytest.approx(roc_auc_score(truth, score), abs=1e-12)


@pytest.mark.parametrize("metric", [pearson, spearman, ccc, rmse])
def test_intervals_are_those_of_scipys_bootstrap(metric: Metric) -> None:
    wanted = stats.bootstrap(
        (A, B), metric, paired=True, vectorized=False, method="percentile", n_resamples=2000, rng=1
    ).confidence_interval
    low, high = interval(metric, A, B, draws=2000)
    width = wanted.high - wanted.low
    assert low == pytest.approx(wanted.low, abs=0.12 * width)
    assert high == pytest.approx(wanted.high, abs=0.12 * width)


def test_groups_of_copies_count_once() -> None:
    # Each clip three times in one group: the interval is that of the single clips.
    groups = np.repeat(np.arange(60), 3)
    assert interval(pearson, np.repeat(A, 3), np.repeat(B, 3), groups) == pytest.approx(interval(pearson, A, B))


def test_several_metrics_at_once() -> None:
    figures = with_intervals({"r": pearson, "ranks": spearman}, A, B, np.repeat(np.arange(20), 3))
    assert list(figures) == ["r", "ranks"]
    assert figures["r"]["value"] == round(pearson(A, B), 4)
    assert figures["ranks"]["ci95"] == pytest.approx(interval(spearman, A, B, np.repeat(np.arange(20), 3)), abs=1e-4)
