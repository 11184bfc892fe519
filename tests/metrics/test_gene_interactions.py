import numpy as np
import pytest
from scipy.spatial.distance import cdist
from sklearn.covariance import LedoitWolf
from sklearn.metrics.pairwise import cosine_similarity

from polygene_scverse.metrics import gene_interactions
from polygene_scverse.metrics._gene_interactions import LEAST_SHRINKAGE, gene_covariance


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def states(rng):
    """17 genes of 7 hidden units, correlated, and in a plane as a layer normalisation leaves them."""
    x = rng.normal(size=(17, 7)) @ rng.normal(size=(7, 7)) + 3.0
    return x - x.mean(1, keepdims=True)


def test_cosine_is_scikit_learns(states):
    np.testing.assert_allclose(gene_interactions(states), cosine_similarity(states), atol=1e-12)


def test_mahalanobis_is_scipys_with_ledoit_and_wolfs_covariance(states):
    expected = cdist(states, states, "mahalanobis", VI=LedoitWolf().fit(states).precision_)
    np.testing.assert_allclose(gene_interactions(states, metric="mahalanobis"), expected, atol=1e-6)


def test_a_covariance_may_be_passed(states):
    covariance = np.diag(np.arange(1.0, 8.0))
    expected = cdist(states, states, "mahalanobis", VI=np.linalg.inv(covariance))
    found = gene_interactions(states, metric="mahalanobis", covariance=covariance)
    np.testing.assert_allclose(found, expected, atol=1e-10)


@pytest.mark.parametrize("metric", ["cosine", "mahalanobis"])
def test_matrices_are_symmetric_and_a_gene_is_like_itself(metric, states):
    found = gene_interactions(states.astype(np.float32), metric=metric)
    np.testing.assert_allclose(found, found.T, rtol=1e-12)
    np.testing.assert_allclose(found.diagonal(), 1.0 if metric == "cosine" else 0.0, atol=1e-12)


def test_covariance_is_ledoit_and_wolfs(states):
    np.testing.assert_allclose(gene_covariance(states), LedoitWolf().fit(states).covariance_, atol=1e-12)


@pytest.mark.parametrize("n_genes", [1, 2, 3], ids=["one", "two", "three"])
def test_a_covariance_of_few_genes_has_an_inverse(n_genes, rng):
    x = rng.normal(size=(n_genes, 7)) - 5.0
    covariance = gene_covariance(x)
    assert np.linalg.cond(covariance) < 100 / LEAST_SHRINKAGE
    assert np.isfinite(gene_interactions(x, metric="mahalanobis")).all()


def test_equal_states_are_no_distance_apart():
    np.testing.assert_allclose(gene_interactions(np.ones((3, 2)), metric="mahalanobis"), np.zeros((3, 3)), atol=1e-7)


def test_a_state_of_zeros_is_like_nothing():
    np.testing.assert_array_equal(gene_interactions([[0.0, 0.0], [3.0, 4.0]]), [[0, 0], [0, 1]])


def test_another_metric_is_refused(states):
    with pytest.raises(ValueError, match="`metric`: found 'pearson', but it must be 'cosine' or 'mahalanobis'"):
        gene_interactions(states, metric="pearson")
