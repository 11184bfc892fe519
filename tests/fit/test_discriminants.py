"""Discriminants and what they are made of against scikit-learn. 67 cells, 11 genes, 5 categories."""

import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.feature_selection import f_classif

from polygene_scverse.fit._discriminants import ScatterSums, VarianceSums

N_CELLS, N_GENES, N_CATEGORIES = 67, 11, 5


@pytest.fixture
def cells():
    """Correlated genes whose mean depends on the category, categories of unlike size, and another 13 cells."""
    rng = np.random.default_rng(0)
    codes = rng.choice(N_CATEGORIES, N_CELLS, p=[0.4, 0.25, 0.15, 0.1, 0.1])
    centres, mixing = rng.normal(size=(N_CATEGORIES, N_GENES)), rng.normal(size=(N_GENES, N_GENES))
    x = 3.0 + centres[codes] + rng.normal(size=(N_CELLS, N_GENES)) @ mixing
    return x, codes, rng.normal(3.0, 2.0, (13, N_GENES))


# sums over cells


def test_scatter_sums_are_sums(cells):
    x, codes, _ = cells
    sums = ScatterSums.fit(x, codes, N_CATEGORIES)
    assert (sums.scatter.shape, sums.sums.shape) == ((N_GENES, N_GENES), (N_CATEGORIES, N_GENES))
    np.testing.assert_allclose(sums.scatter, sum(np.outer(row, row) for row in x))
    np.testing.assert_allclose(sums.sums, [x[codes == c].sum(0) for c in range(N_CATEGORIES)])
    np.testing.assert_array_equal(sums.counts, np.bincount(codes))


def assert_same(a, b, rtol=1e-12):
    for name in ("scatter", "sums", "counts"):
        np.testing.assert_allclose(getattr(a, name), getattr(b, name), rtol=rtol, atol=1e-9, err_msg=name)


def test_sums_of_parts_are_added_and_subtracted(cells):
    x, codes, _ = cells
    whole, first, rest = (
        ScatterSums.fit(x[s], codes[s], N_CATEGORIES) for s in (slice(None), slice(20), slice(20, None))
    )
    assert_same(first + rest, whole)
    assert_same(whole - first, rest)


@pytest.mark.parametrize("n_unknown", [1, 30, N_CELLS])
def test_cells_of_unknown_category_are_left_out(n_unknown, cells):
    x, codes, _ = cells
    codes = np.where(np.arange(N_CELLS) < n_unknown, -1, codes)
    assert_same(
        ScatterSums.fit(x, codes, N_CATEGORIES), ScatterSums.fit(x[n_unknown:], codes[n_unknown:], N_CATEGORIES)
    )


def test_sums_of_single_precision_are_in_double(cells):
    x, codes, _ = cells
    found = ScatterSums.fit(x.astype(np.float32), codes, N_CATEGORIES)
    assert {a.dtype for a in (found.scatter, found.sums, found.counts)} == {np.dtype(np.float64)}
    assert_same(found, ScatterSums.fit(x, codes, N_CATEGORIES), rtol=1e-5)


# genes that tell categories apart


def test_analysis_of_variance_is_that_of_scikit_learn(cells):
    x, codes, _ = cells
    np.testing.assert_allclose(
        ScatterSums.fit(x, codes, N_CATEGORIES).variance_sums.analysis_of_variance(), f_classif(x, codes)[0]
    )


@pytest.mark.parametrize("n_unknown", [0, 11])
def test_variance_sums_are_what_scatter_sums_say_of_single_genes(n_unknown, cells):
    x, codes, _ = cells
    codes = np.where(np.arange(N_CELLS) < n_unknown, -1, codes)
    found, expected = VarianceSums.fit(x, codes, N_CATEGORIES), ScatterSums.fit(x, codes, N_CATEGORIES).variance_sums
    parts = [VarianceSums.fit(x[s], codes[s], N_CATEGORIES) for s in (slice(20), slice(20, None))]
    for other in (expected, parts[0] + parts[1], (found + parts[0]) - parts[0]):
        for name in ("squares", "sums", "counts"):
            np.testing.assert_allclose(getattr(found, name), getattr(other, name), rtol=1e-9, atol=1e-9, err_msg=name)


def test_a_category_without_a_cell_does_not_count_in_it(cells):
    x, codes, _ = cells
    kept = codes != 2
    found = ScatterSums.fit(x, np.where(kept, codes, -1), N_CATEGORIES).variance_sums.analysis_of_variance()
    np.testing.assert_allclose(found, f_classif(x[kept], codes[kept])[0])


@pytest.mark.parametrize("codes", [np.full(7, -1), np.full(7, 1), np.array([0, 1, -1, -1, -1, -1, -1])], ids=str)
def test_where_nothing_can_be_told_it_is_0(codes, cells):
    assert not ScatterSums.fit(cells[0][:7], codes, N_CATEGORIES).variance_sums.analysis_of_variance().any()


def test_a_gene_that_does_not_vary_has_none(cells):
    x, codes, _ = cells
    found = ScatterSums.fit(np.column_stack([x, np.full(N_CELLS, 0.1), np.zeros(N_CELLS)]), codes, N_CATEGORIES)
    assert found.variance_sums.analysis_of_variance()[-2:].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("max_genes", [1, 4, 10])
def test_of_more_genes_those_are_looked_at_that_differ_most(max_genes, cells):
    """As if there were no others."""
    x, codes, _ = cells
    kept = np.sort(np.argsort(-f_classif(x, codes)[0])[:max_genes])
    found = ScatterSums.fit(x, codes, N_CATEGORIES).discriminants(max_genes=max_genes)
    expected = ScatterSums.fit(x[:, kept], codes, N_CATEGORIES).discriminants()
    np.testing.assert_allclose(found.weights[kept], expected.weights)
    np.testing.assert_allclose(found.bias, expected.bias)
    assert not np.delete(found.weights, kept, axis=0).any()


# discriminants


def up_to_a_constant(values):
    return values - values.mean(axis=1, keepdims=True)


@pytest.mark.parametrize("shrinkage", [0.01, 0.3, 0.6, 1.0])
def test_are_those_of_scikit_learn(shrinkage, cells):
    """With unshrunken means; its intercept holds the log of the shares."""
    x, codes, others = cells
    theirs = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage).fit(x, codes)
    ours = ScatterSums.fit(x, codes, N_CATEGORIES).discriminants(shrinkage, prior_cells=0.0)
    assert (ours.weights.shape, ours.bias.shape) == ((N_GENES, N_CATEGORIES), (N_CATEGORIES,))
    np.testing.assert_allclose(up_to_a_constant(ours.weights), up_to_a_constant(theirs.coef_.T), rtol=1e-8, atol=1e-10)
    decision = theirs.decision_function(others) - np.log(theirs.priors_)
    found = ours(others)
    assert found.shape == (13, N_CATEGORIES)
    np.testing.assert_allclose(up_to_a_constant(found), up_to_a_constant(decision), rtol=1e-8, atol=1e-10)


def test_with_the_shares_probabilities_are_those_of_scikit_learn(cells):
    x, codes, others = cells
    theirs = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.6).fit(x, codes)
    values = ScatterSums.fit(x, codes, N_CATEGORIES).discriminants(0.6, 0.0)(others)
    p = np.exp(values) * theirs.priors_
    np.testing.assert_allclose(p / p.sum(1, keepdims=True), theirs.predict_proba(others), rtol=1e-8)


def dense(x, codes, shrinkage, prior_cells):
    """By the textbook: log density of the normal distribution, without what all categories share."""
    mean, n = x.mean(0), len(x)
    of_category = np.stack([x[codes == c].mean(0) for c in range(N_CATEGORIES)])
    counts = np.bincount(codes, minlength=N_CATEGORIES)[:, None]
    means = (counts * of_category + prior_cells * mean) / (counts + prior_cells)
    within = x - of_category[codes]
    covariance = within.T @ within / n
    covariance = (1 - shrinkage) * covariance + shrinkage * np.trace(covariance) / N_GENES * np.eye(N_GENES)
    inverse = np.linalg.inv(covariance)

    def value(others):
        return np.stack([-0.5 * (((others - m) @ inverse) * (others - m)).sum(1) for m in means], axis=1)

    return value


@pytest.mark.parametrize("prior_cells", [0.0, 5.0, 1000.0])
def test_prior_cells_are_cells_at_the_mean_of_all(prior_cells, cells):
    x, codes, others = cells
    found = ScatterSums.fit(x, codes, N_CATEGORIES).discriminants(0.6, prior_cells)(others)
    expected = dense(x, codes, 0.6, prior_cells)(others)
    np.testing.assert_allclose(up_to_a_constant(found), up_to_a_constant(expected), rtol=1e-8, atol=1e-9)


def test_by_hand():
    """One gene; category means 1 and 4, variance within 1, mean of all 2: two prior cells make them 4/3 and 3."""
    x, codes = np.array([[0.0], [1.0], [2.0], [1.0], [5.0], [3.0]]), np.array([0, 0, 0, 0, 1, 1])
    found = ScatterSums.fit(x, codes, 2).discriminants(0.5, 2.0)
    variance = (1 + 0 + 1 + 0 + 1 + 1) / 6
    np.testing.assert_allclose(found.weights, [[(1 - 2) * 4 / 6 / variance, (4 - 2) * 2 / 4 / variance]])
    means = np.array([2 - 4 / 6, 3.0])
    values = -0.5 * (np.array([[0.0], [2.0], [7.0]]) - means) ** 2 / variance
    np.testing.assert_allclose(
        up_to_a_constant(found(np.array([[0.0], [2.0], [7.0]]))), up_to_a_constant(values), atol=1e-12
    )


@pytest.mark.parametrize("empty", [0, 3, N_CATEGORIES - 1])
@pytest.mark.parametrize("prior_cells", [0.0, 5.0])
def test_a_category_without_a_cell_has_no_weight_and_the_lowest_bias(empty, prior_cells, cells):
    x, codes, _ = cells
    codes = np.where(codes == empty, -1, codes)
    found = ScatterSums.fit(x, codes, N_CATEGORIES).discriminants(prior_cells=prior_cells)
    assert not found.weights[:, empty].any()
    assert found.bias[empty] == found.bias.min()
    kept = np.arange(N_CATEGORIES) != empty
    without = np.where(codes > empty, codes - 1, codes)
    expected = ScatterSums.fit(x, without, N_CATEGORIES - 1).discriminants(prior_cells=prior_cells)
    np.testing.assert_allclose(found.weights[:, kept], expected.weights)
    np.testing.assert_allclose(found.bias[kept], expected.bias)


def test_no_cell_is_known(cells):
    found = ScatterSums.fit(cells[0], np.full(N_CELLS, -1), N_CATEGORIES).discriminants()
    assert not found.weights.any()
    assert not found.bias.any()


def test_fewer_cells_than_genes_and_genes_that_are_alike(cells):
    """A covariance without full rank."""
    x, codes, others = cells
    x = np.concatenate([x, x, np.zeros((N_CELLS, 1))], axis=1)[:7]
    found = ScatterSums.fit(x, codes[:7], N_CATEGORIES).discriminants()
    assert np.isfinite(found(np.concatenate([others, others, np.zeros((13, 1))], axis=1))).all()
    np.testing.assert_allclose(found.weights[:N_GENES], found.weights[N_GENES:-1], rtol=1e-6, atol=1e-9)
    assert not found.weights[-1].any()


def test_cells_that_are_all_alike():
    found = ScatterSums.fit(np.ones((7, 3)), np.arange(7) % 2, 2).discriminants()
    assert np.isfinite(found.weights).all()
    assert np.isfinite(found.bias).all()


def test_sums_are_left_as_they_are(cells):
    sums = ScatterSums.fit(cells[0], cells[1], N_CATEGORIES)
    copies = [a.copy() for a in (sums.scatter, sums.sums, sums.counts)]
    first, again = sums.discriminants(), sums.discriminants()
    for a, b in zip((sums.scatter, sums.sums, sums.counts), copies, strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(first.weights, again.weights)
