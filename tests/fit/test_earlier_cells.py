"""Discriminants of earlier cells' moments and new cells are those of all the cells: the oracle has kept them."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from polygene_scverse.fit import _earlier_cells, _panels
from polygene_scverse.fit._discriminants import ScatterSums
from polygene_scverse.fit._earlier_cells import known_sums
from polygene_scverse.fit._gene_scaler import GeneScaler, rescale
from polygene_scverse.fit._groups import _out_of_fold
from polygene_scverse.fit._linear_path import fit_linear_path
from polygene_scverse.fit._panels import PanelMoments
from polygene_scverse.fit._path_cells import PathCells

N_GENES, N_OLD, N_NEW = 43, 307, 101
EVERY = np.ones(N_GENES, dtype=bool)


def drawn_like(x):
    """Cells in which each gene has the same values, but in other cells: nothing is left of the old ones but these."""
    random = np.random.default_rng(5)
    return sp.csr_matrix(np.stack([random.permutation(column) for column in x.toarray().T], axis=1))


@pytest.fixture(scope="module")
def cells():
    """Old cells of three categories, new ones of a fourth and of the first, and the code of each."""
    random = np.random.default_rng(0)
    codes = np.concatenate([np.repeat([0, 1, 2], [150, 100, 57]), np.repeat([3, 0], [81, 20])])
    factors = random.gamma(2.0, 0.5, (len(codes), 5)) @ random.dirichlet(np.ones(N_GENES), 5) * 12
    rates = random.gamma(1.0, 1.0, (4, N_GENES))[codes] * 0.5 + factors
    x = sp.csr_matrix(np.log1p(random.poisson(rates) * 50.0).astype(np.float32))
    return x, codes, np.arange(len(codes)) < N_OLD


@pytest.fixture
def moments(cells):
    x, codes, old = cells
    return PanelMoments.fit(PathCells.of(x[old], codes[old, None], [3], EVERY), [7.0])


def centre_of(x):
    x = sp.csr_matrix((rescale(x.data), x.indices, x.indptr), x.shape)
    return GeneScaler.fit(x, EVERY).centre


@pytest.fixture
def earlier(cells, moments):
    return moments.as_earlier(centre_of(cells[0][cells[2]]), [3], N_OLD)


@pytest.fixture
def mixed(cells):
    """The same data set, in which old cells were replaced by drawn ones."""
    x, codes, old = cells
    return sp.csr_matrix(sp.vstack([drawn_like(x[old]), x[~old]])), codes[:, None], old


def standardised(x):
    x = sp.csr_matrix((rescale(x.data), x.indices, x.indptr), x.shape)
    scaler = GeneScaler.fit(x, EVERY)
    return scaler, scaler.standardise(x, EVERY)


def known_of(mixed, earlier):
    x, codes, old = mixed
    scaler, z = standardised(x)
    return known_sums(earlier, old, lambda rows: z[rows], codes, [4], scaler)[0]


def test_discriminants_are_those_of_all_cells(cells, mixed, earlier):
    x, codes, _ = cells
    of_all = fit_linear_path(PathCells.of(x, codes[:, None], [4], EVERY))
    found = fit_linear_path(PathCells.of(*mixed[:2], [4], EVERY, mixed[2], earlier))
    without = fit_linear_path(PathCells.of(*mixed[:2], [4], EVERY))
    np.testing.assert_allclose(found.centre, of_all.centre, rtol=1e-5)
    log_shares = 0.5 * np.log(np.bincount(codes) / len(codes))
    scaled = [
        (f.weights * f.temperatures[0], (f.bias - log_shares) * f.temperatures[0]) for f in (found, of_all, without)
    ]
    for got, expected in zip(*scaled[:2], strict=True):
        np.testing.assert_allclose(got, expected, atol=0.02 * np.abs(expected).max())  # kept in half precision
    assert np.abs(scaled[2][0] - scaled[1][0]).max() > 0.5 * np.abs(scaled[1][0]).max()


def test_moments_of_all_cells_are_kept_in_turn(cells, mixed, earlier):
    x, codes, _ = cells
    of_all = PanelMoments.fit(PathCells.of(x, codes[:, None], [4], EVERY), [5.0])
    found = PanelMoments.fit(PathCells.of(*mixed[:2], [4], EVERY, mixed[2], earlier), [5.0])
    for name in ("genes", "deviations", "counts"):
        np.testing.assert_allclose(getattr(found, name), getattr(of_all, name), rtol=1e-5)
    np.testing.assert_allclose(found.means, of_all.means, atol=2e-3)
    np.testing.assert_allclose(found.products.astype(float), of_all.products.astype(float), atol=5e-3)


def test_sums_are_over_as_many_cells_as_were_drawn(cells, earlier):
    """Each category has its mean, all have the covariance within them: here of the cells, standardised anew."""
    x, codes, old = cells
    scaler, z = standardised(x)
    z, codes, n = z[old], codes[old], np.array([30, 0, 200, 0])
    means = np.stack([z[codes == c].mean(0) for c in range(3)])
    within = np.cov((z - means[codes]).T, bias=True)
    found = earlier.sums(0, n, scaler)
    np.testing.assert_allclose(found.sums[:3], n[:3, None] * means, atol=0.3)
    np.testing.assert_allclose(found.scatter, 230 * within + (means.T * n[:3]) @ means, atol=1.0)
    assert not found.sums[3].any()
    assert not found.counts.any()
    assert not earlier.sums(1, n, scaler).scatter.any()  # a new phenotype


def test_other_genes_follow_as_in_drawn_cells(cells, moments, mixed, monkeypatch):
    """Drawn cells that are the old ones, and no ridge: then nothing is lost of genes that are not kept."""
    x, codes, old = cells
    monkeypatch.setattr(_earlier_cells, "RIDGE", 1e-9)
    kept = np.arange(0, N_GENES, 3)
    monkeypatch.setattr(_panels, "MAX_GENES", len(kept))
    centre = centre_of(x[old])
    some = PanelMoments.fit(PathCells.of(x[old], codes[old, None], [3], EVERY), [7.0]).as_earlier(centre, [3], N_OLD)
    known = known_of((x, codes[:, None], old), some)
    expected = ScatterSums.fit(standardised(x)[1][old], codes[old], 4)
    genes = np.arange(1, N_GENES)
    found = known.scatter(genes)
    np.testing.assert_allclose(found.scatter, expected.scatter[np.ix_(genes, genes)], atol=1.5)
    np.testing.assert_allclose(found.sums, expected.sums[:, genes], atol=0.3)
    np.testing.assert_array_equal(found.counts, expected.counts)
    np.testing.assert_allclose(known.variances.squares, np.diag(expected.scatter), atol=1.0)
    # of drawn cells that tell nothing of how genes go together, the covariance is still one
    monkeypatch.setattr(_earlier_cells, "RIDGE", 0.5)
    found = known_of(mixed, some).scatter(genes)
    n = np.maximum(found.counts, 1.0)[:, None]
    within = found.scatter - (found.sums / n).T @ found.sums
    assert np.linalg.eigvalsh(within).min() > -1e-2 * np.trace(within) / len(genes)


def test_groups_are_predicted_from_earlier_cells_too(cells, mixed, earlier):
    x, codes, old = cells
    known, (_, z) = known_of(mixed, earlier), standardised(x)
    new, folds = z[~old], np.arange(N_NEW) % 2
    found = _out_of_fold(lambda rows: new[rows], codes[~old], 4, folds, known)
    for fold in (0, 1):
        rest = np.concatenate([np.flatnonzero(old), N_OLD + np.flatnonzero(folds != fold)])
        expected = ScatterSums.fit(z[rest], codes[rest], 4).discriminants()(new[folds == fold])
        np.testing.assert_allclose(found[folds == fold], expected, atol=0.02 * np.abs(expected).max())


def test_groups_of_drawn_cells_are_none(cells, mixed, earlier):
    groups = pd.Series([np.nan] * N_OLD + ["a", "b"] * 50 + ["a"], name="donor", dtype=object)
    found = fit_linear_path(PathCells.of(*mixed[:2], [4], EVERY, mixed[2], earlier), groups=groups).shifts[0]
    assert found.n_groups == 2
    assert len(found.codes) == N_NEW


def test_temperatures_count_by_cells(mixed, earlier):
    known = known_of(mixed, earlier)
    assert known.temperature_beside(2.0, N_NEW) == pytest.approx(
        np.exp((N_OLD * np.log(7.0) + N_NEW * np.log(2.0)) / (N_OLD + N_NEW))
    )


def test_a_new_phenotype_has_no_earlier_cells(cells, mixed, earlier):
    x, codes, old = mixed
    both = np.concatenate([codes, np.where(old, -1, np.arange(len(old)) % 2)[:, None]], axis=1)
    found = fit_linear_path(PathCells.of(x, both, [4, 2], EVERY, old, earlier))
    alone = fit_linear_path(PathCells.of(x, both[:, 1:], [2], EVERY))
    assert found.weights.shape == (N_GENES, 6)
    np.testing.assert_allclose(
        found.weights[:, 4:] * found.temperatures[1], alone.weights * alone.temperatures[0], rtol=1e-4
    )


def test_cells_without_a_category_leave_no_negative_variance(earlier):
    """A tenth of the cells is known, and these are far apart: the products have less than is between them."""
    far = replace(earlier, products=np.eye(N_GENES), means=earlier.means * 0 + 9.0 * np.array([[1.0], [-1.0], [0.0]]))
    within = far._within(0)[0]
    assert np.linalg.eigvalsh(np.eye(N_GENES) - (far.means.T * far.counts / far.counts.sum()) @ far.means).min() < -100
    assert np.linalg.eigvalsh(within).min() > -1e-8
    expected = earlier.products - (earlier.means.T * earlier.counts / N_OLD) @ earlier.means
    np.testing.assert_allclose(earlier._within(0)[0], expected, atol=1e-12)


def test_products_are_those_of_the_phenotypes_that_drawn_cells_have(mixed, earlier):
    x, codes, old = mixed
    both = np.concatenate([codes, np.where(old, -1, np.arange(len(old)) % 2)[:, None]], axis=1)
    one = PanelMoments.fit(PathCells.of(x, codes, [4], EVERY, old, earlier), [5.0])
    two = PanelMoments.fit(PathCells.of(x, both, [4, 2], EVERY, old, earlier), [5.0, 5.0])
    np.testing.assert_array_equal(two.products, one.products)
    np.testing.assert_array_equal(two.means[:4], one.means)
