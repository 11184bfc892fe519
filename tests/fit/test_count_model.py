"""Counts of new cells: frequencies and correlations that were planted come back."""

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.stats import norm, poisson

from polygene_scverse.fit._count_model import CountModel, _scores, factors, fit_count_model, level_edges

N, G = 4000, 40


@pytest.fixture(scope="module")
def planted():
    """Poisson counts of a Gaussian copula with two factors; means depend on two phenotypes."""
    rng = np.random.default_rng(0)
    loadings = np.zeros((G, 2))
    loadings[:15, 0], loadings[10:25, 1] = 0.8, -0.5
    codes = np.stack([rng.integers(0, 3, N), rng.integers(0, 2, N)], 1)
    own = np.sqrt(1 - (loadings**2).sum(1))
    z = rng.normal(size=(N, 2)) @ loadings.T + rng.normal(size=(N, G)) * own
    log_mean = (
        rng.normal(0.7, 0.8, G) + rng.normal(0, 0.7, (3, G))[codes[:, 0]] + rng.normal(0, 0.5, (2, G))[codes[:, 1]]
    )
    counts = poisson.ppf(norm.cdf(z), np.exp(log_mean))
    return counts, codes, loadings


@pytest.fixture(scope="module")
def model(planted):
    return fit_count_model(sp.csr_matrix(planted[0]), planted[1], [3, 2], np.ones(G, dtype=bool))


def draw(model, codes, seed=1, **kwargs):
    rng = np.random.default_rng(seed)
    return model.draw(
        codes, [3, 2], rng.random((len(codes), model.loadings.shape[1])), rng.random((len(codes), G)), **kwargs
    )


def test_means_and_zeros_of_each_combination_come_back(planted, model):
    counts, codes, _ = planted
    drawn = draw(model, codes)
    for kind in np.unique(codes, axis=0):
        at = (codes == kind).all(1)
        error = np.sqrt(counts[at].var(0) / at.sum() * 2) + 0.02
        assert (np.abs(drawn[at].mean(0) - counts[at].mean(0)) / error).max() < 5
        assert np.abs((drawn[at] == 0).mean(0) - (counts[at] == 0).mean(0)).max() < 0.08


def test_latent_correlations_come_back(planted, model):
    truth = planted[2] @ planted[2].T
    found = model.loadings @ model.loadings.T
    off = ~np.eye(G, dtype=bool)
    assert model.loadings.shape[1] == 2
    assert np.corrcoef(found[off], truth[off])[0, 1] > 0.98
    assert np.abs(found[off] - truth[off]).max() < 0.15


def test_correlations_of_counts_come_back(planted, model):
    counts, codes, _ = planted
    at = (codes == codes[0]).all(1)
    off = np.triu_indices(G, 1)
    found, truth = (np.corrcoef(np.log1p(x[at]).T)[off] for x in (draw(model, codes), counts))
    assert np.corrcoef(found, truth)[0, 1] > 0.9


def test_genes_that_are_independent_have_no_factors():
    rng = np.random.default_rng(0)
    assert factors(rng.normal(size=(900, 120)), 1).shape[1] <= 1
    assert factors(rng.normal(size=(90, 120)), 1).shape[1] <= 1


def test_scores_are_conditional_means_of_a_normal():
    counts = np.array([[0], [0], [1], [4]])
    found = _scores(counts, np.zeros(4, dtype=int), level_edges())[:, 0]
    z = norm.rvs(size=400_000, random_state=0)
    cuts = norm.ppf([0.5, 0.75])
    means = [z[z < cuts[0]].mean(), z[(z >= cuts[0]) & (z < cuts[1])].mean(), z[z >= cuts[1]].mean()]
    np.testing.assert_allclose(found, [means[0], means[0], means[1], means[2]], atol=0.01)


def test_wide_levels_hold_counts_within_them(model):
    edges = level_edges()
    assert (np.diff(edges) > 0).all()
    assert list(edges[:10]) == list(range(10))
    v = len(edges)
    bias = np.full((1, v), -30.0, dtype=np.float32)
    bias[0, 15] = 0.0
    wide = CountModel(bias, np.zeros((5, 1, v), np.float32), np.zeros((0, 2), np.int64), np.zeros((0, 1, v), np.float32),
                      edges, np.zeros((1, 0), np.float32))  # fmt: skip
    u = (np.arange(1000) + 0.5) / 1000
    drawn = wide.draw(np.zeros((1000, 2), int), [3, 2], np.zeros((1000, 0)), u[:, None])[:, 0]
    assert drawn.min() == edges[15]
    assert drawn.max() == edges[16] - 1
    assert (np.diff(drawn) >= 0).all()


def test_temperature_and_few_cells(planted, model):
    codes = np.zeros((500, 2), dtype=int)
    assert draw(model, codes, temperature=0.2).var(0).mean() < 0.7 * draw(model, codes).var(0).mean()
    assert fit_count_model(sp.csr_matrix(planted[0][:49]), planted[1][:49], [3, 2], np.ones(G, dtype=bool)) is None


def test_it_survives_plain_containers(model):
    from dataclasses import asdict

    again = CountModel.from_dict(asdict(model))
    codes = np.array([[0, 1]] * 20)
    np.testing.assert_array_equal(draw(again, codes), draw(model, codes))
