"""Each metric against scipy, scikit-learn or a number worked out by hand."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import energy_distance as of_scipy
from scipy.stats import pearsonr
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors

from polygene_scverse.evaluation import _likeness as likeness


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_normalized():
    found = likeness.normalized(np.array([[1.0, 3.0], [0.0, 0.0]]), 8.0)
    np.testing.assert_allclose(found, [[np.log1p(2), np.log1p(6)], [0, 0]])


def test_forest_tells_what_differs_and_not_what_does_not(rng):
    x, same, other = rng.normal(size=(150, 5)), rng.normal(size=(150, 5)), rng.normal(0, 3, size=(150, 5))
    assert likeness.auroc(*likeness.forest_scores(x, other, 0)) > 0.9
    assert 0.35 < likeness.auroc(*likeness.forest_scores(x, same, 0)) < 0.65


def test_auroc_as_scikit_learn(rng):
    low, high = rng.normal(size=20), rng.normal(0.5, 1, 30)
    assert likeness.auroc(low, high) == pytest.approx(roc_auc_score([0] * 20 + [1] * 30, np.r_[low, high]))
    assert np.isnan(likeness.auroc(low, high[:0]))


def test_energy_distance_as_scipy(rng):
    """scipy's takes one dimension, is a root, and counts the distance of a cell to itself."""
    x, y = rng.normal(size=(40, 1)), rng.normal(1, 1, size=(30, 1))
    biased = of_scipy(x[:, 0], y[:, 0]) ** 2
    within = [np.abs(a - a.T).mean() for a in (x, y)]
    expected = biased - within[0] / (40 - 1) - within[1] / (30 - 1)
    assert likeness.energy_distance(x, y) == pytest.approx(expected)


def test_energy_distance_is_0_for_one_distribution(rng):
    found = [likeness.energy_distance(rng.normal(size=(50, 4)), rng.normal(size=(50, 4))) for _ in range(40)]
    assert abs(np.mean(found)) < 3 * np.std(found) / np.sqrt(40)


def test_gene_correlations_within_classes(rng):
    classes = rng.integers(0, 3, 90)
    x = rng.normal(size=(90, 4)) + 10 * classes[:, None]
    z = x - pd.DataFrame(x).groupby(classes).transform("mean").to_numpy()
    expected = [pearsonr(z[:, i], z[:, j])[0] for i in range(4) for j in range(i + 1, 4)]
    np.testing.assert_allclose(likeness.gene_correlations(x, classes), expected)
    x[:, 0] = 1.0
    np.testing.assert_array_equal(likeness.gene_correlations(x, classes)[:3], 0)


def test_agreement(rng):
    x, y = rng.normal(size=9), rng.normal(size=9)
    assert likeness.agreement(x, y) == pytest.approx(pearsonr(x, y)[0])
    assert likeness.agreement(x, np.ones(9)) == likeness.agreement(x[:1], y[:1]) == 0


def test_means_and_variances():
    reference = np.array([[0.0, 1.0, 0.0], [2.0, 3.0, 0.0]])
    x = np.array([[1.0, 1.0, 7.0], [1.0, 5.0, 0.0]])
    assert likeness.mean_error(x, reference) == pytest.approx((0 + 1 + 3.5) / 3)
    assert likeness.variance_ratio(x, reference) == pytest.approx(np.median([0 / 1, 4 / 1]))
    assert np.isnan(likeness.variance_ratio(x, np.zeros((2, 3))))


def test_slope_of_the_largest_changes():
    reference = np.array([3.0, -2.0, 0.1, 0.0])
    x = np.array([1.5, -1.0, 9.0, 9.0])
    assert likeness.slope(x, reference, 2) == pytest.approx(0.5)
    assert likeness.slope(x, reference) == pytest.approx(np.linalg.lstsq(reference[:, None], x, rcond=None)[0][0])
    assert np.isnan(likeness.slope(x, np.full(4, np.nan)))


def test_changes_from_other_classes():
    means = np.array([[1.0, 0.0], [3.0, 0.0], [8.0, 6.0]])
    others = np.array([[0, 1, 1], [1, 0, 0], [0, 0, 0]], dtype=bool)
    np.testing.assert_allclose(likeness.class_changes(means, others), [[-4.5, -3], [2, 0], [np.nan, np.nan]])


def test_nearest_as_scikit_learn(rng):
    x, y = rng.normal(size=(20, 3)), rng.normal(size=(30, 3))
    expected = NearestNeighbors(n_neighbors=1).fit(y).kneighbors(x)[0][:, 0]
    np.testing.assert_allclose(likeness.nearest(x, y), expected)
