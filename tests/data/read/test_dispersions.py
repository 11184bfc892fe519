"""The oracle of ranks is scanpy, by way of `rank_genes`; that of sums is the dense matrix."""

import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from anndata import AnnData
from scipy import sparse as sp

from polygene_scverse.data.read._dispersions import DispersionSums
from polygene_scverse.data.read._expression import Expression
from polygene_scverse.data.read._ranking import rank_genes
from polygene_scverse.data.read._scale import COUNTS, OURS
from polygene_scverse.datasets import simulate

CELLS = simulate(700, 211, seed=3, mean_count=0.1)


def per_10k(counts):
    dense = counts.toarray().astype(np.float64)
    return dense / dense.sum(1, keepdims=True) * 1e4


def moments_of(x, scale=COUNTS, size=97):
    moments = DispersionSums(x.shape[1])
    for start in range(0, x.shape[0], size):
        moments.add(x[start : start + size], np.arange(x.shape[1]), scale)
    return moments


def test_sums_are_those_of_counts_per_10000():
    found, dense = moments_of(CELLS.X), per_10k(CELLS.X)
    np.testing.assert_allclose(found.sums, dense.sum(0), rtol=1e-5)
    np.testing.assert_allclose(found.squares, (dense**2).sum(0), rtol=1e-5)
    np.testing.assert_array_equal(found.n_expressed, (dense > 0).sum(0))
    assert (found.n_cells == 700).all()


def test_log_values_give_the_same_as_counts():
    log = sp.csr_matrix(np.log1p(per_10k(CELLS.X)).astype(np.float32))
    np.testing.assert_allclose(moments_of(log, OURS).sums, moments_of(CELLS.X).sums, rtol=1e-4)


@pytest.mark.parametrize("scale", [COUNTS, OURS], ids=str)
def test_ranks_are_scanpys(scale):
    x = CELLS.X if scale == COUNTS else sp.csr_matrix(np.log1p(per_10k(CELLS.X)).astype(np.float32))
    expected = rank_genes(Expression.of(AnnData(x, var=CELLS.var[[]])), np.arange(700))
    pd.testing.assert_series_equal(moments_of(x, scale).rank(CELLS.var_names), expected)


def test_dispersions_lead_to_the_genes_that_scanpy_takes():
    """Not by way of our own call of scanpy."""
    data = CELLS.copy()
    sc.pp.normalize_total(data, target_sum=1e4)
    sc.pp.log1p(data)
    sc.pp.highly_variable_genes(data, n_top_genes=50)
    ranks = moments_of(CELLS.X).rank(CELLS.var_names)
    assert set(ranks.index[ranks < 50]) == set(CELLS.var_names[data.var["highly_variable"]])


def test_genes_that_no_cell_expresses_have_no_rank():
    x = CELLS.X.tolil()
    x[:, [5, 8]] = 0
    ranks = moments_of(x.tocsr()).rank(CELLS.var_names)
    assert list(ranks.index[ranks.isna()]) == ["gene_5", "gene_8"]
    assert sorted(ranks.dropna()) == list(range(209))


def test_a_gene_without_variance_comes_last():
    x = sp.csr_matrix(np.column_stack([np.ones(50), np.arange(50) % 7, np.arange(50) % 5]).astype(np.float32))
    assert moments_of(x, OURS).rank(pd.Index(list("abc")))["a"] == 2


def test_a_gene_counts_in_the_cells_that_have_it():
    """Half of the cells lack gene 0: its mean is not halved, and the others' totals are their own."""
    columns = np.arange(1, CELLS.n_vars)
    lacking = CELLS.X[350:, 1:]
    found = moments_of(CELLS.X[:350])
    found.add(lacking, columns, COUNTS)
    assert found.n_cells[0] == 350
    assert (found.n_cells[1:] == 700).all()
    np.testing.assert_allclose(found.sums[0], per_10k(CELLS.X[:350])[:, 0].sum(), rtol=1e-5)
    expected = per_10k(CELLS.X[:350]).sum(0)[1:] + per_10k(lacking).sum(0)
    np.testing.assert_allclose(found.sums[1:], expected, rtol=1e-5)


def test_moments_add_up():
    a, b, both = moments_of(CELLS.X[:300]), moments_of(CELLS.X[300:]), moments_of(CELLS.X)
    a += b
    np.testing.assert_allclose(a.squares, both.squares)
    np.testing.assert_array_equal(a.n_cells, both.n_cells)
    pd.testing.assert_series_equal(a.rank(CELLS.var_names), both.rank(CELLS.var_names))
