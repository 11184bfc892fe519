"""Simple generators keep what they should, and nothing else."""

import numpy as np
import pytest
from scipy.stats import ks_2samp, norm, poisson, spearmanr

from polygene_scverse.evaluation._generators import GENERATORS, gaussian_copula, independent_genes, real_cells


@pytest.fixture(scope="module")
def counts():
    """Correlated Poisson counts; the first gene is 0 in all cells."""
    rng = np.random.default_rng(0)
    z = 0.8 * rng.normal(size=(2000, 1)) + 0.6 * rng.normal(size=(2000, 7))
    return np.c_[np.zeros(2000), poisson.ppf(norm.cdf(z), [0.5, 1, 2, 4, 8, 16, 32])]


def test_real_cells_are_rows(counts):
    found = real_cells(counts, 50, np.random.default_rng(0))
    assert {tuple(row) for row in found} <= {tuple(row) for row in counts}


def test_real_cells_are_drawn_evenly():
    rows = np.arange(7.0)[:, None]
    found = real_cells(rows, 17, np.random.default_rng(0))[:, 0].astype(int)
    assert set(np.bincount(found)) == {2, 3}
    assert sorted(found[:7]) == list(range(7))


@pytest.mark.parametrize("make", [independent_genes, gaussian_copula])
def test_frequencies_are_kept(counts, make):
    found = make(counts, 2000, np.random.default_rng(0))
    assert not found[:, 0].any()
    assert all(set(found[:, j]) <= set(counts[:, j]) for j in range(8))
    assert max(ks_2samp(found[:, j], counts[:, j]).statistic for j in range(8)) < 0.05


def test_the_copula_alone_keeps_correlations(counts):
    rng = np.random.default_rng(0)
    off = np.triu_indices(7, 1)
    true, copula, independent = (
        spearmanr(x[:, 1:]).statistic[off]
        for x in (counts, gaussian_copula(counts, 4000, rng), independent_genes(counts, 4000, rng))
    )
    high = np.add(*off) >= 8  # breaking ties at random weakens the correlations of genes with few counts
    np.testing.assert_allclose(copula[high], true[high], atol=0.08)
    assert copula.min() > 0.25
    assert np.abs(independent).max() < 0.08


def test_names_and_seeds(counts):
    assert list(GENERATORS) == ["real cells", "Gaussian copula", "independent genes"]
    for make in GENERATORS.values():
        one, same, other = (make(counts, 9, np.random.default_rng(seed)) for seed in (1, 1, 2))
        assert one.shape == (9, 8)
        np.testing.assert_array_equal(one, same)
        assert (one != other).any()


def test_few_cells_and_one_gene():
    found = gaussian_copula(np.array([[0.0], [3.0], [5.0]]), 20, np.random.default_rng(0))
    assert set(found[:, 0]) <= {0, 3, 5}
