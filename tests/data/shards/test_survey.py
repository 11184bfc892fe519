from dataclasses import replace

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from polygene_scverse._constants import RANK
from polygene_scverse.data.read._expression import Expression
from polygene_scverse.data.read._ranking import genes_by_rank, rank_genes
from polygene_scverse.data.read._scale import COUNTS, OURS
from polygene_scverse.data.shards import _survey
from polygene_scverse.data.shards._shard_set import ShardSet
from polygene_scverse.data.shards._survey import common_ranks, shares_of, survey, tokenizers_of, warn_unmeasured

EVERY = np.arange(300)
EDGES = np.array([0.0, 1e-9, 5.0])


def to_log(part):
    part.X = part.X.multiply(1e4 / part.X.sum(1)).tocsr().astype(np.float32).log1p()
    return part


@pytest.mark.parametrize("block", [8192, 33], ids=["one block", "many blocks"])
@pytest.mark.parametrize("scale", [COUNTS, OURS], ids=str)
def test_genes_are_those_ranked_in_memory(scale, block, simulated, write_files, monkeypatch):
    if scale == OURS:
        to_log(simulated)
    rows = np.setdiff1d(EVERY, np.random.default_rng(0).choice(300, 90, replace=False))
    shards = ShardSet.open(write_files(simulated), "sex")
    monkeypatch.setattr(_survey, "BLOCK", block)
    monkeypatch.setattr("polygene_scverse.data.read._source.iterate_rows.__defaults__", (block,))
    expected = genes_by_rank(rank_genes(Expression.of(simulated), rows), 25)
    assert survey(shards, rows, 25) == (expected, [scale] * 3)


def test_held_out_cells_do_not_count(simulated, write_files):
    rows = np.arange(0, 150)
    genes, _ = survey(ShardSet.open(write_files(simulated), "sex"), rows, 20)
    simulated.X[150:] = simulated.X[150:].multiply(np.arange(1, 61)).tocsr()
    assert survey(ShardSet.open(write_files(simulated), "sex"), rows, 20)[0] == genes


def with_ones(x, n):
    return sp.vstack([sp.csr_matrix(np.ones((n, x.shape[1]), dtype=np.float32)), x[n:]], format="csr")


def test_whole_numbers_in_the_first_block_only(simulated, write_files, monkeypatch):
    """Cells that express nothing but zeros and ones do not hide that the others are log values."""
    to_log(simulated)
    simulated.X = with_ones(simulated.X, 5)
    monkeypatch.setattr(_survey, "BLOCK", 5)
    monkeypatch.setattr("polygene_scverse.data.read._source.iterate_rows.__defaults__", (5,))
    expected = genes_by_rank(rank_genes(Expression.of(simulated), EVERY), 25)
    assert survey(ShardSet.open(write_files(simulated), "sex"), EVERY, 25) == (
        expected,
        [replace(OURS, complete=False), OURS, OURS],
    )


def test_too_many_whole_numbers_among_log_values(simulated, write_files):
    """From a twentieth of the rows on they are a second scale."""
    to_log(simulated)
    simulated.X = with_ones(simulated.X, 10)
    with pytest.raises(
        ValueError, match=r"of 64 sampled rows of X of .*shard_0\.h5ad, 6 contain counts and 58 logarithms"
    ):
        survey(ShardSet.open(write_files(simulated), "sex"), EVERY, 25)


def test_files_of_two_scales(simulated, write_files):
    paths = write_files(simulated, change=lambda i, part: to_log(part) if i == 2 else part)
    with pytest.raises(
        ValueError, match=r"found counts in .*shard_0\.h5ad, but log1p of counts per 10,000 in .*shard_2\.h5ad"
    ):
        survey(ShardSet.open(paths, "sex"), EVERY, 20)


def test_files_that_were_normalised_to_other_sums(simulated, write_files):
    """Each file has its scale, and tells the same as counts do."""
    counts = ShardSet.open(write_files(simulated), "sex")
    genes, scales = survey(counts, EVERY, 20)
    shares = shares_of(counts, EVERY, scales)

    def change(i, part):
        part.X = part.X.multiply([1e3, 1e6, 2500][i] / part.X.sum(1)).tocsr().astype(np.float32).log1p()
        return part

    paths = write_files(simulated, change=change)
    logs = ShardSet.open(paths, "sex")
    found, scales = survey(logs, EVERY, 20)
    assert found == genes
    assert [(scale.kind, scale.target, scale.complete) for scale in scales] == [
        ("log", 1e3, True),
        ("log", 1e6, True),
        ("log", 2500, True),
    ]
    assert shares_of(logs, EVERY, scales) == pytest.approx(shares, rel=1e-4)
    for path, tokenizer, first in zip(paths, tokenizers_of(logs, genes, scales, EDGES), [0, 120, 170], strict=True):
        part = tokenizer.read(Expression.of(ad.read_h5ad(path)), np.arange(9))
        of_counts = replace(tokenizer, scale=COUNTS).read(Expression.of(simulated), first + np.arange(9))
        np.testing.assert_array_equal(part.genes, of_counts.genes)
        np.testing.assert_allclose(part.values, of_counts.values, rtol=1e-5)


def test_shares_are_means_over_the_files_that_have_a_gene(simulated, write_files):
    """The second file lacks 20 genes; its cells, and those not asked for, have no part in them."""

    def change(i, part):
        return part[:, 20:].copy() if i == 1 else part

    shards, rows = ShardSet.open(write_files(simulated, change=change), "sex"), np.arange(0, 300, 3)
    x, second = simulated.X.toarray()[rows].astype(float), (rows >= 120) & (rows < 170)
    x[second, :20] = np.nan
    of_cells = pd.DataFrame(x / np.nansum(x, axis=1, keepdims=True), columns=simulated.var_names)
    means = of_cells.mean()
    found = shares_of(shards, rows, [COUNTS] * 3)
    assert found == pytest.approx((means / max(1, means.sum())).to_dict(), rel=1e-5)


def test_proteins_have_no_part_in_totals(simulated, write_files):
    simulated.var["feature_types"] = ["Antibody Capture"] * 5 + ["Gene Expression"] * 55
    shards = ShardSet.open(write_files(simulated), "sex")
    found = shares_of(shards, EVERY, [COUNTS] * 3)
    genes = simulated.X.toarray()[:, 5:].astype(float)
    means = (genes / genes.sum(1, keepdims=True)).mean(0)
    assert found == pytest.approx(dict(zip(simulated.var_names[5:], means, strict=True)), rel=1e-5)
    tokenizers = tokenizers_of(shards, ["gene7", "gene8"], [COUNTS] * 3, EDGES)
    for tokenizer in tokenizers:
        values = tokenizer(simulated.X).matrix(2).toarray()
        np.testing.assert_allclose(values, np.log1p(1e4 * genes[:, 2:4] / genes.sum(1, keepdims=True)), rtol=1e-5)


SPOILED = {
    "negative": (-1.0, r"X of .*shard_1\.h5ad has negative values \(lowest -1\)"),
    "nan": (np.nan, r"1 values of X of .*shard_1\.h5ad are NaN"),
    "infinite": (np.inf, r"1 values of X of .*shard_1\.h5ad are infinite"),
}


@pytest.mark.parametrize(("value", "match"), SPOILED.values(), ids=SPOILED)
@pytest.mark.parametrize("noted", [False, True], ids=["ranked", "ranks in the files"])
def test_values_that_cannot_be(value, match, noted, simulated, write_files):
    if noted:
        simulated.var[RANK] = np.arange(60.0)

    def change(i, part):
        part.X.data[-1] = value if i == 1 else part.X.data[-1]
        return part

    with pytest.raises(ValueError, match=match):
        survey(ShardSet.open(write_files(simulated, change=change), "sex"), EVERY, 20)


def test_ranks_on_which_all_files_agree(simulated, write_files):
    """By name: the files have their genes in other orders, and one lacks some."""
    simulated.var[RANK] = np.random.default_rng(0).permutation(60).astype(float)

    def change(i, part):
        return [part, part[:, 20:].copy(), part[:, ::-1].copy()][i]

    shards = ShardSet.open(write_files(simulated, change=change), "sex")
    expected = list(simulated.var[RANK].sort_values().index[:20])
    assert survey(shards, EVERY, 20) == (expected, [COUNTS] * 3)


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
    tokenizers = tokenizers_of(shards, ["gene1", "gene2"], [COUNTS] * 3, EDGES)
    assert [list(t.measured) for t in tokenizers] == [[True, True], [False, True], [True, True]]
    assert tokenizers[0].slots is tokenizers[2].slots
    assert [t.scale for t in tokenizers] == [COUNTS] * 3
    with pytest.warns(
        UserWarning, match=r"Some of the 2 genes are unmeasured in 1 of 3 files: \['shard_1.h5ad lacks 1'\]"
    ):
        warn_unmeasured(shards, ["gene1", "gene2"], tokenizers)
    warn_unmeasured(shards, ["gene1", "gene2"], [tokenizers[0]] * 3)
    with pytest.raises(ValueError, match=r"none of its 3 genes.*\(In .*shard_1\.h5ad"):
        tokenizers_of(shards, ["gene1", "gene3"], [COUNTS] * 3, EDGES)
