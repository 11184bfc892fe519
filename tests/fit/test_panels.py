"""Discriminants of a panel are those fitted to its genes alone: the oracle fits them anew."""

import numpy as np
import pytest
import scipy.sparse as sp

from polygene_scverse.fit._discriminants import ScatterSums
from polygene_scverse.fit._gene_scaler import GeneScaler, rescale
from polygene_scverse.fit._panels import PanelAccuracy, PanelMoments, transformer_part
from polygene_scverse.fit._path_cells import PathCells

N_CATEGORIES = [3, 2]


@pytest.fixture(scope="module")
def cells():
    random = np.random.default_rng(0)
    codes = np.stack([random.integers(0, n, 311) for n in N_CATEGORIES], axis=1)
    rates = random.gamma(1.0, 1.0, (3, 47))[codes[:, 0]] + random.gamma(0.5, 1.0, (2, 47))[codes[:, 1]]
    return sp.csr_matrix(np.log1p(random.poisson(rates) * 40.0).astype(np.float32)), codes


@pytest.fixture(scope="module")
def moments(cells):
    x, codes = cells
    return PanelMoments.fit(PathCells.of(x, codes, N_CATEGORIES, np.ones(47, dtype=bool)), [2.0, 3.0])


@pytest.mark.parametrize("n_left", [47, 13, 1])
def test_weights_are_those_of_a_refit(cells, moments, n_left):
    x, codes = cells
    left = np.sort(np.random.default_rng(1).permutation(47)[:n_left])
    measured = np.isin(np.arange(47), left)
    weights, bias = moments.discriminants(measured, N_CATEGORIES)
    log_shares = moments.log_shares(N_CATEGORIES)
    x = sp.csr_matrix((rescale(x.data), x.indices, x.indptr), x.shape)[:, left]
    scaler = GeneScaler.fit(x, np.ones(n_left, dtype=bool))
    z = scaler.standardise(x, np.ones(n_left, dtype=bool))
    start = 0
    for i, (n, temperature) in enumerate(zip(N_CATEGORIES, (2.0, 3.0), strict=True)):
        refit = ScatterSums.fit(z, codes[:, i], n).discriminants()
        shares = np.bincount(codes[:, i]) / len(codes)
        np.testing.assert_allclose(log_shares[start : start + n], np.log(shares), rtol=1e-6)
        expected = refit(z) / temperature
        got = (z * scaler.deviation) @ weights[left, start : start + n] + bias[start : start + n]
        np.testing.assert_allclose(got - got[:, :1], expected - expected[:, :1], atol=0.03)  # kept in half precision
        start += n
    assert not weights[~measured].any()


def test_the_argument_is_not_changed(cells):
    x, codes = cells
    before = x.copy()
    PanelMoments.fit(PathCells.of(x, codes, N_CATEGORIES, np.ones(47, dtype=bool)), [1.0, 1.0])
    np.testing.assert_array_equal(x.data, before.data)


def test_more_genes_tell_more(moments):
    found = []
    for n_left in (2, 10, 47):
        weights, bias = moments.discriminants(np.arange(47) < n_left, N_CATEGORIES)
        found.append(moments.simulated_accuracy(weights, bias, N_CATEGORIES))
    assert (np.diff(found, axis=0) > 0).all()
    assert (np.array(found) > [[1 / 3, 1 / 2]]).all()


def test_unknown_categories_have_no_part(cells):
    x, codes = cells
    unknown = codes.copy()
    unknown[::3, 1] = -1
    found = PanelMoments.fit(PathCells.of(x, unknown, N_CATEGORIES, np.ones(47, dtype=bool)), [1.0, 1.0])
    np.testing.assert_array_equal(found.counts[3:], np.bincount(codes[unknown[:, 1] >= 0, 1]))


def test_accuracy_to_expect_rises():
    simulated = np.array([0.9, 0.2, 0.5, 0.5])
    found = PanelAccuracy.of(simulated, 12).with_accuracy(simulated, np.array([0.8, 0.4, 0.3, 0.5]))
    assert found.expected(0.2) == found.expected(0.0) == pytest.approx(0.4)
    assert found.expected(0.5) == pytest.approx(0.4)
    assert found.expected(0.7) == pytest.approx(0.6)
    assert found.expected(1.0) == pytest.approx(0.8)


def test_temperature_rises_with_what_a_panel_tells():
    simulated = np.array([0.9, 0.2, 0.5, 0.5])
    found = PanelAccuracy.of(simulated, 60, np.array([2.0, 0.5, 0.4, 1.6]))
    assert found.factor(0.2) == found.factor(0.0) == pytest.approx(0.25)
    assert found.factor(0.5) == pytest.approx(0.4)  # geometric mean
    assert found.factor(0.7) == pytest.approx(0.4**0.5)
    assert found.factor(0.9) == found.factor(1.0) == pytest.approx(1.0)
    assert PanelAccuracy.of(simulated, 12).factor(0.2) == 1.0


@pytest.mark.parametrize(("share", "part"), [(1.0, 1.0), (0.7, 1.0), (0.5, 0.5), (0.3, 0.0), (0.1, 0.0)])
def test_the_transformer_has_less_part_where_genes_are_few(share, part):
    assert transformer_part(np.arange(100) < 100 * share) == pytest.approx(part)


def test_cells_of_a_category_that_are_all_alike():
    """Then products in half precision leave variances below zero."""
    random = np.random.default_rng(0)
    kinds = random.gamma(1.0, 3.0, (3, 40))
    codes = np.repeat([0, 1, 2], 2)[:, None]
    x = sp.csr_matrix(np.log1p(kinds[codes[:, 0]]))
    measured = np.ones(40, dtype=bool)
    moments = PanelMoments.fit(PathCells.of(x, codes, [3], measured), [1.0])
    weights, biases = moments.discriminants(measured, [3])
    assert np.isfinite(weights).all()
    assert np.isfinite(biases).all()
