"""The oracle of the ragged table is the dense one-liner."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import scipy.sparse as sp
from anndata import AnnData

from polygene_scverse.data.read._expression import Expression
from polygene_scverse.data.read._scale import COUNTS, OURS
from polygene_scverse.data.read._tokens import Cells, Tokenizer

EDGES = np.array([0, 4.5, 5.0, 5.5, 6.0, 7.0, 8.0])  # lower values than 4.5 count as not expressed
GENES = [f"gene{i}" for i in (41, 3, 59, 17, 0, 28, 5)]  # not in the order of the data
ROWS = np.array([7, 3, 3, 40, 0, 22])


def to_dense(cells, n_genes, what="bins"):
    dense = np.zeros((len(cells), n_genes), dtype=getattr(cells, what).dtype)
    dense[np.repeat(np.arange(len(cells)), cells.lengths), cells.genes] = getattr(cells, what)
    return dense


def normalized(adata):
    """Values by scanpy, dense."""
    adata = adata.copy()
    adata.X = adata.X.astype(np.float32)
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    return adata.X.toarray() if sp.issparse(adata.X) else adata.X


def assert_equal(a, b):
    for name in ("indptr", "genes", "bins", "values"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)


KINDS = {
    "csr": sp.csr_matrix,
    "csc": sp.csc_matrix,
    "dense": np.asarray,
    "csr_array": sp.csr_array,
    "int": lambda x: sp.csr_matrix(x.astype(np.int64)),
    "float64": lambda x: sp.csr_matrix(x.astype(np.float64)),
}


@pytest.mark.parametrize("kind", [*KINDS, "backed csr", "backed dense", "view"])
def test_ragged_is_the_dense_one_liner(kind, simulated, tmp_path):
    expected = normalized(simulated)[ROWS][:, simulated.var_names.get_indexer(GENES)]
    data = simulated.copy()
    rows = ROWS
    if kind in KINDS:
        data.X = KINDS[kind](simulated.X.toarray())
    elif kind == "view":
        data, rows = data[::-1], data.n_obs - 1 - ROWS
    else:
        data.X = KINDS[kind.split()[1]](simulated.X.toarray())
        data.write_h5ad(tmp_path / "cells.h5ad")
        data = ad.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    expression = Expression.of(data)
    cells = Tokenizer.match(GENES, expression.var_names, expression.scale, EDGES).read(expression, rows)
    bins = np.digitize(expected.astype(np.float64), EDGES) - 1
    np.testing.assert_array_equal(to_dense(cells, len(GENES)), bins)
    np.testing.assert_allclose(to_dense(cells, len(GENES), "values"), np.where(bins > 0, expected, 0), rtol=1e-6)
    assert len(cells) == len(ROWS)
    if data.isbacked:
        data.file.close()


def test_log1p_values_are_taken_as_they_are(pbmc):
    genes, edges = pbmc.var_names[::-3].tolist(), np.array([0.0, 1.0, 2.0, 4.0])
    cells = Tokenizer.match(genes, pbmc.var_names, OURS, edges).read(Expression.of(pbmc), np.arange(pbmc.n_obs))
    expected = pbmc[:, genes].X.toarray()
    bins = np.digitize(expected.astype(np.float64), edges) - 1
    assert ((bins == 0) & (expected > 0)).any()
    np.testing.assert_array_equal(to_dense(cells, len(genes)), bins)
    np.testing.assert_array_equal(to_dense(cells, len(genes), "values"), np.where(bins > 0, expected, 0))


def test_a_table_is_as_promised(simulated):
    """Types, bins never 0, gene slots ascend within a cell."""
    cells = Tokenizer.match(GENES, simulated.var_names, COUNTS, EDGES).read(Expression.of(simulated), np.arange(300))
    assert (cells.genes.dtype, cells.bins.dtype, cells.values.dtype) == (np.int32, np.int16, np.float32)
    assert cells.bins.min() == 1
    assert cells.bins.max() == 6
    row = np.repeat(np.arange(300), cells.lengths)
    assert np.all(np.diff(row * len(GENES) + cells.genes) > 0)


def test_reading_leaves_the_matrix_alone(simulated):
    x = simulated.X.copy()
    Tokenizer.match(GENES, simulated.var_names, COUNTS, EDGES).read(Expression.of(simulated), ROWS)
    assert (x != simulated.X).nnz == 0
    np.testing.assert_array_equal(x.data, simulated.X.data)


def test_totals_include_genes_that_the_model_does_not_have(simulated):
    """A cell's values do not depend on how many of its genes the model has."""
    few = Tokenizer.match(GENES[:1], simulated.var_names, COUNTS, EDGES).read(Expression.of(simulated), ROWS)
    all_ = Tokenizer.match(GENES, simulated.var_names, COUNTS, EDGES).read(Expression.of(simulated), ROWS)
    np.testing.assert_array_equal(few.values, all_.values[all_.genes == 0])


def test_genes_are_matched_by_name(simulated):
    """Permuted columns give the same table."""
    permuted = simulated[:, np.random.default_rng(0).permutation(60)].copy()
    a, b = (
        Tokenizer.match(GENES, data.var_names, COUNTS, EDGES).read(Expression.of(data), ROWS)
        for data in (simulated, permuted)
    )
    assert_equal(a, b)


def test_missing_genes_are_unmeasured(simulated):
    tokenizer = Tokenizer.match(["gene1", "absent", "gene0"], simulated.var_names, COUNTS, EDGES)
    np.testing.assert_array_equal(tokenizer.measured, [True, False, True])
    np.testing.assert_array_equal(tokenizer.slots[:3], [2, 0, -1])
    assert 1 not in tokenizer.read(Expression.of(simulated), np.arange(300)).genes


def test_no_gene_in_common():
    names = pd.Index(["ENSG1", "ENSG2"])
    with pytest.raises(ValueError, match=r"`adata`: none of its 2 genes, e\.g\. \['ENSG1', 'ENSG2'\], is among the 7"):
        Tokenizer.match(GENES, names, COUNTS, EDGES)


def test_a_cell_with_nothing_expressed():
    x = sp.csr_matrix(np.array([[0, 0, 0], [0, 5, 0], [0, 0, 0]], dtype=np.float32))
    cells = Tokenizer.match(["a", "b", "c"], pd.Index(["a", "b", "c"]), COUNTS, EDGES).read(
        Expression.of(AnnData(x)), np.arange(3)
    )
    np.testing.assert_array_equal(cells.lengths, [0, 1, 0])
    np.testing.assert_allclose(cells.values, [np.log1p(1e4)], rtol=1e-6)


def test_no_cells(simulated):
    cells = Tokenizer.match(GENES, simulated.var_names, COUNTS, EDGES).read(Expression.of(simulated), ROWS[:0])
    assert len(cells) == 0
    assert cells.genes.dtype == np.int32


@pytest.fixture
def cells(simulated):
    return Tokenizer.match(GENES, simulated.var_names, COUNTS, EDGES).read(Expression.of(simulated), np.arange(300))


@pytest.mark.parametrize(
    "rows", [[5], [9, 2, 2, 299], [], list(range(299, -1, -1))], ids=["one", "some", "none", "all"]
)
def test_take(rows, cells):
    rows = np.array(rows, dtype=int)
    taken = cells.take(rows)
    for what in ("bins", "values"):
        np.testing.assert_array_equal(to_dense(taken, 7, what), to_dense(cells, 7, what)[rows])


def test_matrix_is_the_dense_one(cells):
    matrix = cells.matrix(7)
    assert (matrix.shape, matrix.dtype) == ((300, 7), np.float32)
    np.testing.assert_array_equal(matrix.toarray(), to_dense(cells, 7, "values"))
    assert cells.take(np.array([], dtype=int)).matrix(7).shape == (0, 7)


def test_concatenate(cells):
    parts = [cells.take(np.arange(a, b)) for a, b in ((0, 3), (3, 3), (3, 300))]
    assert_equal(Cells.concatenate(parts), cells)


SETS = {
    "nothing": ([], [], []),
    "expressed": ([2, 0], [3, 1], [5.5, 0.25]),
    "silenced": ([6, 1], [0, 0], [0.0, 0.0]),
    "both": ([5, 3, 4], [2, 0, 6], [4.75, 0.0, 8.5]),
    "all": ([6, 5, 4, 3, 2, 1, 0], [1, 2, 3, 4, 5, 6, 0], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 0.0]),
}


@pytest.mark.parametrize(("genes", "bins", "values"), SETS.values(), ids=SETS)
def test_some_genes_are_set_in_every_cell(genes, bins, values, cells):
    """As in the dense table, by columns."""
    before, genes = cells.take(np.arange(300)), np.array(genes, dtype=np.int64)
    found = cells.with_genes(genes, np.array(bins, dtype=np.int64), np.array(values))
    for what, new in (("bins", bins), ("values", values)):
        expected = to_dense(cells, 7, what)
        expected[:, genes] = new
        np.testing.assert_array_equal(to_dense(found, 7, what), expected)
    row = np.repeat(np.arange(300), found.lengths)
    assert np.all(np.diff(row * 7 + found.genes) > 0)
    assert found.bins.min(initial=1) > 0
    for name in ("indptr", "genes", "bins", "values"):
        assert getattr(found, name).dtype == getattr(cells, name).dtype
    assert_equal(cells, before)


def test_genes_are_set_in_no_cells(cells):
    none = cells.take(np.zeros(0, dtype=int)).with_genes(np.array([1]), np.array([2]), np.array([3.0]))
    assert (len(none), len(none.genes)) == (0, 0)


def test_rebin_is_reading_with_other_edges(simulated):
    fine, coarse = np.array([0, 1e-9, 3.0]), np.array([0.0, 5.0, 6.0, 7.0])
    a, b = (
        Tokenizer.match(GENES, simulated.var_names, COUNTS, edges).read(Expression.of(simulated), ROWS)
        for edges in (fine, coarse)
    )
    assert len(b.genes) < len(a.genes)
    assert_equal(a.rebin(coarse), b)


def test_blocks_do_not_show(simulated):
    """More rows than are read at a time."""
    big = AnnData(sp.vstack([simulated.X] * 30, format="csr"), var=simulated.var)
    tokenizer = Tokenizer.match(GENES, big.var_names, COUNTS, EDGES)
    rows = np.random.default_rng(0).permutation(9000)
    assert_equal(tokenizer.read(Expression.of(big), rows), tokenizer.read(Expression.of(simulated), rows % 300))
