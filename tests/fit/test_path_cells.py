"""Standardised cells of the linear path."""

import numpy as np
import scipy.sparse as sp

from polygene_scverse.fit._path_cells import PathCells


def made(measured, **kwargs):
    random = np.random.default_rng(0)
    x = sp.csr_matrix(np.log1p(random.poisson(1.0, (50, 6)) * 100.0).astype(np.float32))
    return x, PathCells.of(x, random.integers(0, 2, (50, 1)), [2], measured, **kwargs)


def test_expression_is_standardised_over_all_cells():
    x, cells = made(np.ones(6, dtype=bool))
    per_thousand = np.log1p(np.expm1(x.toarray().astype(np.float64)) / 10)
    found = cells.standardised(np.arange(50))
    np.testing.assert_allclose(found.mean(axis=0), 0.0, atol=1e-5)
    for gene in range(6):
        assert np.corrcoef(found[:, gene], per_thousand[:, gene])[0, 1] > 0.99  # but for the cap
    np.testing.assert_array_equal(cells.standardised(np.array([7, 3])), found[[7, 3]])


def test_genes_that_some_cells_lack():
    measured = np.ones((50, 6), dtype=bool)
    measured[:20, 2] = False
    found = made(measured)[1].standardised(np.arange(50))
    assert not found[:20, 2].any()
    assert found[20:, 2].any()


def test_drawn_cells_are_not_own():
    assert list(made(np.ones(6, dtype=bool))[1].own) == list(range(50))
    cells = made(np.ones(6, dtype=bool), drawn=np.arange(50) < 45)[1]
    assert list(cells.own) == [45, 46, 47, 48, 49]


def test_without_earlier_cells_nothing_is_known():
    assert made(np.ones(6, dtype=bool))[1].known == [None]
