"""The oracle is scanpy's own choice of highly variable genes."""

import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import scipy.sparse as sp
from anndata import AnnData

from polygene_scverse._constants import RANK
from polygene_scverse.data.read import _ranking
from polygene_scverse.data.read._expression import Expression
from polygene_scverse.data.read._ranking import choose_genes, genes_by_rank, rank_genes


def all_rows(adata):
    return np.arange(adata.n_obs)


def scanpy_choice(adata, n_top, scale, **kwargs):
    """Names that scanpy marks as highly variable."""
    adata = adata.copy()
    if scale == "counts":
        sc.pp.normalize_total(adata, target_sum=1e4)
        sc.pp.log1p(adata)
    sc.pp.highly_variable_genes(adata, n_top_genes=n_top, **kwargs)
    return set(adata.var_names[adata.var["highly_variable"]])


@pytest.mark.parametrize("n_top", [5, 20, 59])
def test_counts(n_top, simulated):
    ranks = rank_genes(Expression.of(simulated), all_rows(simulated))
    assert set(ranks.index[ranks < n_top]) == scanpy_choice(simulated, n_top, "counts")


@pytest.mark.parametrize("n_top", [10, 200, 500])
def test_log1p(n_top, pbmc):
    ranks = rank_genes(Expression.of(pbmc), all_rows(pbmc))
    assert set(ranks.index[ranks < n_top]) == scanpy_choice(pbmc, n_top, "log1p")
    assert ranks.name == RANK
    assert ranks.index.equals(pbmc.var_names)
    np.testing.assert_array_equal(np.sort(ranks), np.arange(pbmc.n_vars))


def test_batches(simulated):
    """scanpy counts in how many batches a gene is among the n_top; we use a fifth of the genes."""
    donor = simulated.obs["donor"]
    ranks = rank_genes(Expression.of(simulated), all_rows(simulated), batch=donor)
    assert set(ranks.index[ranks < 12]) == scanpy_choice(simulated, 12, "counts", batch_key="donor")
    plain = rank_genes(Expression.of(simulated), all_rows(simulated))
    assert not ranks.equals(plain)


def test_batches_that_are_left_out_do_not_matter(simulated):
    donor = simulated.obs["donor"]
    rows = np.flatnonzero(donor.isin(["donor0", "donor1"]))
    part = simulated[rows].copy()
    a = rank_genes(Expression.of(simulated), rows, batch=donor)
    b = rank_genes(Expression.of(part), all_rows(part), batch=part.obs["donor"])
    pd.testing.assert_series_equal(a, b)


@pytest.mark.parametrize(
    "kind", [sp.csc_matrix, sp.csr_array, lambda x: x.toarray()], ids=["csc", "csr_array", "dense"]
)
def test_any_matrix_of_some_rows(kind, simulated):
    """Only the rows asked for decide; the matrix is not changed."""
    rows = np.arange(0, 300, 3)
    x = kind(simulated.X)
    before = x.copy()
    ranks = rank_genes(Expression.of(AnnData(x, var=simulated.var)), rows)
    part = simulated[rows].copy()
    pd.testing.assert_series_equal(ranks, rank_genes(Expression.of(part), all_rows(part)))
    assert abs(x - before).sum() == 0


def test_genes_that_no_cell_expresses_have_no_rank(simulated):
    x = simulated.X.toarray()
    x[:, [3, 50]] = 0
    ranks = rank_genes(Expression.of(AnnData(x, var=simulated.var)), all_rows(simulated))
    assert list(ranks.index[ranks.isna()]) == ["gene3", "gene50"]
    np.testing.assert_array_equal(np.sort(ranks.dropna()), np.arange(58))
    rest = simulated[:, ~simulated.var_names.isin(["gene3", "gene50"])].copy()
    expected = rank_genes(Expression.of(rest), all_rows(rest))
    pd.testing.assert_series_equal(ranks.dropna(), expected)


def test_informative_genes_come_first(simulated):
    """Genes 0 … 35 depend on cell type and sex, the others on chance and donor."""
    ranks = rank_genes(Expression.of(simulated), all_rows(simulated))
    assert ranks.iloc[:36].median() < ranks.iloc[36:].median()


def test_many_cells_are_sampled(simulated, monkeypatch):
    monkeypatch.setattr(_ranking, "MOST_CELLS", 100)
    rows = np.sort(np.random.default_rng(5).choice(300, 100, replace=False))
    sampled = rank_genes(Expression.of(simulated), all_rows(simulated), seed=5)
    pd.testing.assert_series_equal(sampled, rank_genes(Expression.of(simulated), rows))


def test_genes_of_a_model_are_those_given_or_those_of_the_ranks_or_ranked_on_some_rows(simulated):
    expression, rows = Expression.of(simulated), np.arange(0, 300, 2)
    assert choose_genes(expression, rows, 2, genes=["gene7", "gene3", "gene5"]) == ["gene7", "gene3", "gene5"]
    ranks = pd.Series(np.arange(60.0)[::-1], index=simulated.var_names)
    assert choose_genes(expression, rows, 2, ranks=ranks) == ["gene59", "gene58"]
    assert choose_genes(expression, rows, 9) == genes_by_rank(rank_genes(expression, rows), 9)
    assert choose_genes(expression, rows, 9) != genes_by_rank(rank_genes(expression, all_rows(simulated)), 9)
    with pytest.raises(KeyError, match=r"`genes`: \['x'\] are not in adata\.var_names"):
        choose_genes(expression, rows, 2, genes=["x", "gene3"])


def test_the_seed_decides_which_of_many_cells_choose(simulated, monkeypatch):
    monkeypatch.setattr(_ranking, "MOST_CELLS", 50)
    expression, rows = Expression.of(simulated), all_rows(simulated)
    chosen = [choose_genes(expression, rows, 10, seed=seed) for seed in (0, 0, 1)]
    assert chosen[0] == chosen[1] != chosen[2]
    assert chosen[2] == genes_by_rank(rank_genes(expression, rows, seed=1), 10)


def test_genes_by_rank():
    ranks = pd.Series([2.0, np.nan, 0.0, 3.0, 1.0], index=list("abcde"))
    assert genes_by_rank(ranks, 3) == ["c", "e", "a"]
    assert genes_by_rank(ranks, 99) == ["c", "e", "a", "d"]


def test_ranks_that_are_not_numbers_are_refused():
    with pytest.raises(ValueError, match=r"adata.var\['highly_variable_rank'\] has \['0', 'first'\], but numbers are"):
        genes_by_rank(pd.Series(["0", "first", None]), 3)


def test_genes_by_rank_of_scanpy(pbmc):
    """``seurat_v3`` writes the ranks itself."""
    pytest.importorskip("skmisc")
    table = sc.pp.highly_variable_genes(pbmc, flavor="seurat_v3", n_top_genes=50, inplace=False, check_values=False)
    assert genes_by_rank(table[RANK], 50) == list(table[RANK].dropna().sort_values().index)


def test_genes_of_equal_rank_stand_as_in_the_data():
    """``seurat_v3`` leaves medians over batches, which may be equal; no more genes are taken for that."""
    ranks = pd.Series([1.0, 0.5, 1.0, np.nan, 0.5, 1.0], index=list("fbdaec"))
    assert genes_by_rank(ranks, 99) == ["b", "e", "f", "d", "c"]
    assert genes_by_rank(ranks, 4) == ["b", "e", "f", "d"]


@pytest.mark.parametrize(
    ("ranks", "message"),
    [
        ([5.0, 6.0], r"`n_genes`: no gene has a rank below 3 in adata\.var\['highly_variable_rank'\]"),
        ([np.nan, np.nan], "`n_genes`: no gene has a rank below 3"),
    ],
    ids=["high", "missing"],
)
def test_ranks_that_give_no_order(ranks, message):
    with pytest.raises(ValueError, match=message):
        genes_by_rank(pd.Series(ranks, index=["a", "b"]), 3)


@pytest.mark.parametrize("x", [np.ones((50, 8)), np.tile(np.arange(8.0), (50, 1))], ids=["ones", "one cell, repeated"])
def test_genes_that_do_not_vary_cannot_be_ranked(x):
    expression = Expression.of(AnnData(sp.csr_matrix(x)))
    with pytest.raises(ValueError, match=r"`adata`: every gene of adata\.X has the same expression in all cells"):
        rank_genes(expression, np.arange(50))
