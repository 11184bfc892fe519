"""Factors: the posterior by scipy's conditional Gaussian, and counts from known rates."""

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.decomposition import PCA

from polygene_scverse.fit._expression_factors import ADDED, N_FACTORS, ExpressionFactors, fit_expression_factors

N_GENES = 37


@pytest.fixture(scope="module")
def x():
    """log1p of counts per 10,000 of genes that share three factors."""
    rng = np.random.default_rng(0)
    rates = np.exp(rng.normal(size=(203, 3)) @ rng.normal(0, 0.7, (3, N_GENES)) + rng.normal(0, 1, N_GENES))
    counts = rng.poisson(rates)
    return np.log1p(1e4 * counts / counts.sum(1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def factors(x):
    return fit_expression_factors(sp.csr_matrix(x))


@pytest.mark.parametrize("measured", [np.ones(N_GENES, bool), np.arange(N_GENES) % 3 > 0], ids=["all", "some"])
def test_the_posterior_is_that_of_a_gaussian(x, factors, measured):
    """Genes are factors and noise, jointly Gaussian: the conditional mean by solving with their covariance."""
    f, asked = factors.log, np.array([5, 3, 20])
    found, variance = f.expect(sp.csr_matrix(x * measured), asked, measured)
    shared = (f.components.T * f.variances) @ f.components
    noise = f.residual + ADDED * f.residual.mean()
    of_measured = np.linalg.inv((shared + np.diag(noise))[np.ix_(measured, measured)])
    across = shared[np.ix_(asked, measured)] @ of_measured
    expected = f.mean[asked] + (x - f.mean)[:, measured] @ across.T
    np.testing.assert_allclose(found, expected.clip(min=0), atol=2e-4)
    left = np.diag(shared)[asked] - np.einsum("ij,ij->i", across, shared[np.ix_(asked, measured)])
    np.testing.assert_allclose(variance, f.residual[asked] + left, atol=2e-4)


def test_components_are_those_of_scikit_learn(x, factors):
    pca = PCA(N_FACTORS, svd_solver="full").fit(x.astype(float))
    np.testing.assert_allclose(np.abs(np.sum(pca.components_ * factors.log.components, axis=1)), 1.0, atol=1e-3)
    np.testing.assert_allclose(factors.log.variances, pca.singular_values_**2 / len(x), rtol=1e-3)
    left = (x - pca.inverse_transform(pca.transform(x))).var(axis=0)
    np.testing.assert_allclose(factors.log.residual, left, atol=1e-3)


def test_both_scales_have_the_means_of_the_cells(x, factors):
    every = np.arange(N_GENES), np.ones(N_GENES, bool)
    logs = factors.expect(sp.csr_matrix(x), *every, log=True)
    np.testing.assert_allclose(logs.mean(0), x.mean(0), atol=0.15)
    counts = factors.expect(sp.csr_matrix(x), *every, log=False)
    np.testing.assert_allclose(counts.mean(0), np.expm1(x).mean(0), rtol=0.1, atol=5)
    assert logs.dtype == counts.dtype == np.float32


def test_it_is_nearer_to_other_molecules_than_the_cells_themselves():
    rng = np.random.default_rng(1)
    rates = np.exp(rng.normal(size=(400, 2)) @ rng.normal(0, 0.8, (2, 300)))  # far more genes than factors
    counts = rng.poisson(rates)
    kept = rng.binomial(counts, 0.5)
    a, b = (np.log1p(1e4 * part / part.sum(1, keepdims=True)) for part in (kept, counts - kept))
    found = fit_expression_factors(sp.csr_matrix(a)).expect(
        sp.csr_matrix(a), np.arange(300), np.ones(300, bool), log=True
    )
    assert ((found - b) ** 2).mean() < 0.7 * ((a - b) ** 2).mean()
    assert ((found - b) ** 2).mean() < 0.9 * ((a.mean(0) - b) ** 2).mean()


def test_it_comes_back_from_plain_containers(factors):
    plain = {name: {k: v.tolist() for k, v in vars(f).items()} for name, f in vars(factors).items()}
    again = ExpressionFactors.from_dict(plain)
    for name, f in vars(factors).items():
        for k, v in vars(f).items():
            np.testing.assert_array_equal(getattr(getattr(again, name), k), v)


def test_too_few_cells_have_none(x):
    assert fit_expression_factors(sp.csr_matrix(x[:49])) is None
    assert fit_expression_factors(sp.csr_matrix(0 * x)) is None
