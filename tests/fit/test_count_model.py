"""Counts of new cells: frequencies and correlations that were planted come back."""

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.stats import norm, poisson

from polygene_scverse.fit import _count_model
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
    return model.draw(codes, [3, 2], rng.random((len(codes), model.n_factors)), rng.random((len(codes), G)), **kwargs)


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
    off = ~np.eye(G, dtype=bool)
    assert model.loadings.shape == (1 + 6, G, 2)
    assert model.kinds.tolist() == [[i, j] for i in range(3) for j in range(2)]
    for loadings in model.loadings:
        found = loadings @ loadings.T
        assert np.corrcoef(found[off], truth[off])[0, 1] > 0.97
        assert np.abs(found[off] - truth[off]).max() < 0.2


def test_correlations_of_counts_come_back(planted, model):
    counts, codes, _ = planted
    at = (codes == codes[0]).all(1)
    off = np.triu_indices(G, 1)
    found, truth = (np.corrcoef(np.log1p(x[at]).T)[off] for x in (draw(model, codes), counts))
    assert np.corrcoef(found, truth)[0, 1] > 0.9


def test_genes_that_are_independent_have_no_factors():
    rng = np.random.default_rng(0)
    for n in (900, 90):
        weights = np.where(np.arange(n) < 40, 1.0, 0.3)
        assert factors(rng.normal(size=(n, 120)), np.ones(n), 1).shape[1] <= 1
        assert factors(rng.normal(size=(n, 120)), weights, 1).shape[1] <= 1


def test_genes_that_tell_little_are_regressed_on_the_others(monkeypatch):
    rng = np.random.default_rng(0)
    truth = np.r_[np.full(30, 0.7), np.full(10, -0.6), np.zeros(10)]
    z = rng.normal(size=(3000, 1)) * truth + rng.normal(size=(3000, 50)) * np.sqrt(1 - truth**2)
    scores = z * np.r_[np.ones(30), np.full(20, 0.5)]
    monkeypatch.setattr(_count_model, "INFORMATIVE", 30)
    found = factors(scores, np.ones(3000), 1)
    found = found @ np.sign(found[:1].T)
    # a score that is half of the variable itself has a variance of 0.25, by which correlations are divided
    np.testing.assert_allclose(found[:30, 0], truth[:30], atol=0.06)
    np.testing.assert_allclose(found[30:, 0], 2 * truth[30:] * np.minimum(1, 0.95**0.5 / (2 * 0.6)), atol=0.1)


def test_a_combination_has_its_own_correlations():
    rng = np.random.default_rng(0)
    codes = np.repeat([[0], [1]], 1500, axis=0)
    loadings = np.zeros((2, G))
    loadings[0, :20], loadings[1, 20:] = 0.8, 0.8
    z = rng.normal(size=(3000, 1)) * loadings[codes[:, 0]]
    z += rng.normal(size=(3000, G)) * np.sqrt(1 - loadings[codes[:, 0]] ** 2)
    model = fit_count_model(sp.csr_matrix(poisson.ppf(norm.cdf(z), 2.0)), codes, [2], np.ones(G, dtype=bool))
    drawn = model.draw(codes, [2], rng.random((3000, model.n_factors)), rng.random((3000, G)))
    for kind, genes in ((0, slice(0, 20)), (1, slice(20, 40))):
        other = slice(20, 40) if kind == 0 else slice(0, 20)
        within = [np.corrcoef(drawn[codes[:, 0] == kind][:, part].T) for part in (genes, other)]
        own, alien = (c[np.triu_indices(20, 1)].mean() for c in within)
        assert own > 0.4  # 0.64 were it alone, 0.32 if all were pooled
        assert alien < 0.25


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
                      edges, np.zeros((1, 1, 0), np.float32), np.zeros((0, 2), np.int64))  # fmt: skip
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


def test_loadings_saved_without_combinations_are_read(model):
    from dataclasses import asdict

    plain = asdict(model)
    plain["loadings"] = plain["loadings"][0].tolist()
    del plain["kinds"]
    again = CountModel.from_dict(plain)
    codes = np.array([[0, 1], [2, 0]] * 20)
    assert draw(again, codes).shape == (40, G)
    assert again.n_factors == 2
