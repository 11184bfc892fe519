import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from polygene_scverse._constants import RANK
from polygene_scverse.data.read._expression import Expression
from polygene_scverse.data.read._ranking import genes_by_rank, rank_genes
from polygene_scverse.data.shards import _survey
from polygene_scverse.data.shards._shard_set import ShardSet
from polygene_scverse.data.shards._survey import common_ranks, survey, tokenizers_of, warn_unmeasured

EVERY = np.arange(300)
EDGES = np.array([0.0, 1e-9, 5.0])


def to_log(part):
    part.X = part.X.multiply(1e4 / part.X.sum(1)).tocsr().astype(np.float32).log1p()
    return part


@pytest.mark.parametrize("block", [8192, 33], ids=["one block", "many blocks"])
@pytest.mark.parametrize("scale", ["counts", "log1p"])
def test_genes_are_those_ranked_in_memory(scale, block, simulated, write_files, monkeypatch):
    if scale == "log1p":
        to_log(simulated)
    rows = np.setdiff1d(EVERY, np.random.default_rng(0).choice(300, 90, replace=False))
    shards = ShardSet.open(write_files(simulated), "sex")
    monkeypatch.setattr(_survey, "BLOCK", block)
    monkeypatch.setattr("polygene_scverse.data.read._source.iterate_rows.__defaults__", (block,))
    expected = genes_by_rank(rank_genes(Expression.of(simulated), rows), 25)
    assert survey(shards, rows, 25) == (expected, scale)


def test_held_out_cells_do_not_count(simulated, write_files):
    rows = np.arange(0, 150)
    genes, _ = survey(ShardSet.open(write_files(simulated), "sex"), rows, 20)
    simulated.X[150:] = simulated.X[150:].multiply(np.arange(1, 61)).tocsr()
    assert survey(ShardSet.open(write_files(simulated), "sex"), rows, 20)[0] == genes


def test_whole_numbers_in_the_first_block_only(simulated, write_files, monkeypatch):
    """Cells that express nothing but zeros and ones do not hide that the others are log values."""
    to_log(simulated)
    simulated.X = sp.vstack([sp.csr_matrix(np.ones((10, 60), dtype=np.float32)), simulated.X[10:]], format="csr")
    monkeypatch.setattr(_survey, "BLOCK", 10)
    monkeypatch.setattr("polygene_scverse.data.read._source.iterate_rows.__defaults__", (10,))
    expected = genes_by_rank(rank_genes(Expression.of(simulated), EVERY), 25)
    assert survey(ShardSet.open(write_files(simulated), "sex"), EVERY, 25) == (expected, "log1p")


def test_files_of_two_scales(simulated, write_files):
    paths = write_files(simulated, change=lambda i, part: to_log(part) if i == 2 else part)
    with pytest.raises(ValueError, match=r"found counts in .*shard_0\.h5ad, but log1p in .*shard_2\.h5ad"):
        survey(ShardSet.open(paths, "sex"), EVERY, 20)


SPOILED = {
    "negative": (-1.0, r"X of .*shard_1\.h5ad has negative values \(lowest -1\)"),
    "nan": (np.nan, r"1 values of X of .*shard_1\.h5ad are NaN"),
    "infinite": (np.inf, r"1 values of X of .*shard_1\.h5ad are infinite"),
}


@pytest.mark.parametrize(("value", "match"), SPOILED.values(), ids=SPOILED)
@pytest.mark.parametrize("genes", [None, ["gene1", "gene2"]], ids=["ranked", "given"])
def test_values_that_cannot_be(value, match, genes, simulated, write_files):
    def change(i, part):
        part.X.data[-1] = value if i == 1 else part.X.data[-1]
        return part

    with pytest.raises(ValueError, match=match):
        survey(ShardSet.open(write_files(simulated, change=change), "sex"), EVERY, 20, genes)


def test_given_genes_are_kept(simulated, write_files):
    shards = ShardSet.open(write_files(simulated), "sex")
    assert survey(shards, EVERY, 20, ["gene7", "gene3"]) == (["gene7", "gene3"], "counts")
    with pytest.raises(KeyError, match=r"`genes`: \['x'\] not among the genes of the files"):
        survey(shards, EVERY, 20, ["x", "gene3"])


def test_ranks_on_which_all_files_agree(simulated, write_files):
    """By name: the files have their genes in other orders, and one lacks some."""
    simulated.var[RANK] = np.random.default_rng(0).permutation(60).astype(float)

    def change(i, part):
        return [part, part[:, 20:].copy(), part[:, ::-1].copy()][i]

    shards = ShardSet.open(write_files(simulated, change=change), "sex")
    expected = list(simulated.var[RANK].sort_values().index[:20])
    assert survey(shards, EVERY, 20) == (expected, "counts")


def test_ranks_that_differ_are_not_used(simulated, write_files):
    def change(i, part):
        part.var[RANK] = np.roll(np.arange(60.0), i)
        return part

    shards = ShardSet.open(write_files(simulated, change=change), "sex")
    with pytest.warns(UserWarning, match=r"var\['highly_variable_rank'\] differs between the files, so .* not used"):
        assert common_ranks(shards.files) is None


def test_ranks_of_some_files_are_not_used(simulated, write_files):
    def change(i, part):
        if i == 0:
            part.var[RANK] = np.arange(60.0)
        return part

    shards = ShardSet.open(write_files(simulated, change=change), "sex")
    with pytest.warns(UserWarning, match=r"is in 1 of 3 files"):
        genes, _ = survey(shards, EVERY, 20)
    assert genes == genes_by_rank(rank_genes(Expression.of(simulated), EVERY), 20)


def test_a_gene_without_rank_agrees_with_itself(simulated, write_files):
    simulated.var[RANK] = np.where(np.arange(60) < 50, np.arange(60), np.nan)
    ranks = common_ranks(ShardSet.open(write_files(simulated), "sex").files)
    pd.testing.assert_series_equal(ranks, simulated.var[RANK])


def test_tokenizers_say_what_is_measured(simulated, write_files):
    def change(i, part):
        return part[:, [0, 2, 4]].copy() if i == 1 else part

    shards = ShardSet.open(write_files(simulated, change=change), "sex")
    tokenizers = tokenizers_of(shards, ["gene1", "gene2"], "counts", EDGES)
    assert [list(t.measured) for t in tokenizers] == [[True, True], [False, True], [True, True]]
    assert tokenizers[0] is tokenizers[2]
    with pytest.warns(
        UserWarning, match=r"Some of the 2 genes are unmeasured in 1 of 3 files: \['shard_1.h5ad lacks 1'\]"
    ):
        warn_unmeasured(shards, ["gene1", "gene2"], tokenizers)
    warn_unmeasured(shards, ["gene1", "gene2"], [tokenizers[0]] * 3)
    with pytest.raises(ValueError, match=r"none of its 3 genes.*This is said of .*shard_1\.h5ad"):
        tokenizers_of(shards, ["gene1", "gene3"], "counts", EDGES)
