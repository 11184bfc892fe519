import numpy as np
import pytest
from scipy import stats

from polygene_scverse import metrics
from polygene_scverse.evaluation._bootstrap import (
    SCORES,
    bootstrap,
    draw_weights,
    interval,
    point_scores,
    scores_from_sums,
    sums_by_cell,
)

N, K = 331, 5


@pytest.fixture
def answers():
    """True codes (category 4 is rare), probabilities, and a decision that is not always the most probable."""
    rng = np.random.default_rng(0)
    codes = rng.choice(K, N, p=[0.4, 0.3, 0.2, 0.09, 0.01])
    probabilities = rng.dirichlet(np.ones(K), N) * 0.6
    probabilities[np.arange(N), codes] += 0.4
    predicted = probabilities.argmax(1)
    predicted[::11] = (predicted[::11] + 1) % K
    return codes, probabilities, predicted


def by_metrics(codes, probabilities, predicted, min_cells=10):
    return [
        metrics.accuracy(codes, predicted),
        metrics.balanced_accuracy(codes, predicted),
        metrics.macro_f1(codes, predicted),
        metrics.macro_f1(codes, predicted, min_cells=min_cells),
        metrics.ece(codes, probabilities),
        metrics.nll(codes, probabilities),
    ]


def test_scores_are_those_of_metrics(answers):
    codes, probabilities, predicted = answers
    large = np.bincount(codes, minlength=K) >= 10
    assert large.tolist() == [True] * 4 + [False]
    sums = sums_by_cell(codes, probabilities, predicted)
    values = point_scores(sums, large)
    assert len(SCORES) == len(values)
    np.testing.assert_allclose(values, by_metrics(codes, probabilities, predicted))


def test_weights_are_repeated_cells(answers):
    codes, probabilities, predicted = answers
    weights = draw_weights(np.zeros(N, dtype=int), 3, np.random.default_rng(1))
    values = scores_from_sums(weights @ sums_by_cell(*answers), np.ones(K, dtype=bool))
    for row, value in zip(weights.astype(int), values, strict=True):
        drawn = np.repeat(np.arange(N), row)
        expected = by_metrics(codes[drawn], probabilities[drawn], predicted[drawn], min_cells=1)
        np.testing.assert_allclose(value, expected)


def test_draws_stay_within_strata():
    strata = np.repeat([0, 1, 2], [5, 7, 11])
    weights = draw_weights(strata, 40, np.random.default_rng(0))
    for stratum, size in enumerate([5, 7, 11]):
        assert (weights[:, strata == stratum].sum(1) == size).all()
    assert len(np.unique(weights, axis=0)) == 40


def test_few_groups_resample_cells_as_scipy_does(answers):
    codes, _, predicted = answers
    sums = {"model": sums_by_cell(*answers)}
    samples = bootstrap(sums, np.zeros(N, dtype=int), np.ones(K, dtype=bool), 4000, 0)["model"]
    low, high = interval(samples)
    right = (codes == predicted).astype(float)
    result = stats.bootstrap((right,), np.mean, n_resamples=4000, method="percentile", rng=np.random.default_rng(2))
    assert (low[0], high[0]) == pytest.approx(tuple(result.confidence_interval), abs=0.007)


def test_many_groups_are_resampled_whole_as_scipy_does(answers):
    """Equally large groups: the accuracy of a sample is the mean of the accuracies of the groups drawn."""
    codes, probabilities, predicted = (a[:330] for a in answers)
    groups = np.arange(330) // 33
    predicted = np.where(groups < 3, codes, predicted)  # groups differ
    sums = {"model": sums_by_cell(codes, probabilities, predicted)}
    low, high = interval(bootstrap(sums, groups, np.ones(K, dtype=bool), 4000, 0)["model"])
    group_accuracy = (codes == predicted).reshape(10, 33).mean(1)
    result = stats.bootstrap(
        (group_accuracy,), np.mean, n_resamples=4000, method="percentile", rng=np.random.default_rng(2)
    )
    assert (low[0], high[0]) == pytest.approx(tuple(result.confidence_interval), abs=0.01)


def test_samples_are_paired_and_seeded(answers):
    sums = {"model": sums_by_cell(*answers), "twin": sums_by_cell(*answers)}
    arguments = (sums, np.zeros(N, dtype=int), np.ones(K, dtype=bool), 60)
    samples, again, other = bootstrap(*arguments, 3), bootstrap(*arguments, 3), bootstrap(*arguments, 4)
    np.testing.assert_array_equal(samples["model"], samples["twin"])
    np.testing.assert_array_equal(samples["model"], again["model"])
    assert not np.array_equal(samples["model"], other["model"])


def test_interval():
    samples = np.column_stack([np.arange(101.0), np.full(101, np.nan), np.r_[np.nan, np.arange(100.0)]])
    low, high = interval(samples)
    np.testing.assert_allclose(low, [2.5, np.nan, np.quantile(np.arange(100.0), 0.025)])
    np.testing.assert_allclose(high, [97.5, np.nan, np.quantile(np.arange(100.0), 0.975)])
    assert np.isnan(interval(np.empty((0, 2)))).all()


def test_no_category_with_ten_cells(answers):
    codes, probabilities, predicted = (a[:4] for a in answers)
    sums = sums_by_cell(codes, probabilities, predicted)
    values = dict(zip(SCORES, point_scores(sums, np.zeros(K, dtype=bool)), strict=True))
    assert np.isnan(values["macro_f1_10"])
    assert values["macro_f1"] == pytest.approx(metrics.macro_f1(codes, predicted))
