"""The oracle of every way to read is the dense matrix."""

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp
from anndata import AnnData

from polygene_scverse.data.read._expression import Expression
from polygene_scverse.data.read._source import iterate_rows, read_rows

ROWS = np.array([7, 3, 3, 40, 0, 22])


def unsorted(x):
    """The same matrix with the entries of each row backwards."""
    x = sp.csr_matrix(x)
    for start, stop in zip(x.indptr[:-1], x.indptr[1:], strict=True):
        x.indices[start:stop] = x.indices[start:stop][::-1].copy()
        x.data[start:stop] = x.data[start:stop][::-1].copy()
    x.has_sorted_indices = False
    return x


def with_stored_zeros(x):
    """The same matrix with every entry stored."""
    n, m = x.shape
    return sp.csr_matrix((x.ravel(), np.tile(np.arange(m), n), np.arange(0, n * m + 1, m)), shape=(n, m))


def in_parts(x):
    """The same matrix with each entry stored as a sum of two."""
    x = sp.csr_matrix(x)
    return sp.csr_matrix((np.repeat(x.data / 2, 2), np.repeat(x.indices, 2), 2 * x.indptr), shape=x.shape)


KINDS = {
    "csr": sp.csr_matrix,
    "csc": sp.csc_matrix,
    "dense": np.array,
    "csr_array": sp.csr_array,
    "csc_array": sp.csc_array,
    "int": lambda x: sp.csr_matrix(x.astype(np.int64)),
    "float64": lambda x: sp.csr_matrix(x.astype(np.float64)),
    "dense int": lambda x: x.astype(np.int32),
    "fortran order": np.asfortranarray,
    "unsorted": unsorted,
    "stored zeros": with_stored_zeros,
    "in parts": in_parts,
}


@pytest.fixture
def dense(simulated):
    return simulated.X.toarray()


def assert_equal(block, expected):
    """Same values, and as promised: float32, sorted, no zeros, each entry once."""
    assert isinstance(block, sp.csr_matrix)
    assert block.dtype == np.float32
    assert block.data.all()
    assert block.has_canonical_format
    np.testing.assert_array_equal(block.toarray(), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_read_rows_of_any_matrix(kind, dense):
    x = KINDS[kind](dense)
    assert_equal(read_rows(x, ROWS), dense[ROWS])


@pytest.mark.parametrize("kind", KINDS)
def test_reading_leaves_the_matrix_alone(kind, dense):
    x = KINDS[kind](dense)
    before = x.copy()
    block = read_rows(x, ROWS)
    block.data[:] = 99.0
    for name in ("data", "indices", "indptr") if sp.issparse(x) else ():
        np.testing.assert_array_equal(getattr(x, name), getattr(before, name))
    if not sp.issparse(x):
        np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize("kind", ["csr", "csc", "dense"])
@pytest.mark.parametrize("arguments", [{}, {"layer": "l"}, {"use_raw": True}], ids=["X", "layer", "raw"])
def test_read_rows_of_a_file(kind, arguments, dense, tmp_path):
    adata = AnnData(KINDS[kind](dense))
    adata.raw = adata.copy()
    adata.layers["l"] = adata.X.copy()
    adata.write_h5ad(tmp_path / "cells.h5ad")
    backed = ad.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    x = Expression.of(backed, **arguments).matrix
    assert_equal(read_rows(x, ROWS), dense[ROWS])
    assert_equal(read_rows(x, ROWS[:0]), dense[ROWS[:0]])
    backed.file.close()


@pytest.mark.parametrize(
    ("rows", "n_calls"),
    [(np.arange(0, 300, 30), 1), (np.arange(40), 1), (np.r_[0:40, 200:240], 2), (np.r_[5, 90, 100:110, 250], 1)],
    ids=["far apart", "neighbours", "two runs", "most far apart"],
)
def test_rows_far_apart_are_read_in_one_call(rows, n_calls, dense, tmp_path, monkeypatch):
    AnnData(KINDS["csr"](dense)).write_h5ad(tmp_path / "cells.h5ad")
    backed = ad.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    x, calls = backed.X, []
    read = type(x).__getitem__
    monkeypatch.setattr(type(x), "__getitem__", lambda self, index: calls.append(index) or read(self, index))
    assert_equal(read_rows(x, rows), dense[rows])
    assert len(calls) == n_calls
    backed.file.close()


@pytest.mark.parametrize("kind", ["csr", "dense", "csr_array"])
def test_read_rows_of_views(kind, dense, tmp_path):
    adata = AnnData(KINDS[kind](dense))
    adata.write_h5ad(tmp_path / "cells.h5ad")
    backed = ad.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    part = np.arange(200, 100, -1)
    for data in (adata, backed):
        found = Expression.of(data[part, 5:])
        assert_equal(read_rows(found.matrix, ROWS), dense[part, 5:][ROWS])
        assert list(found.var_names) == [str(i) for i in range(5, dense.shape[1])]
    backed.file.close()


@pytest.mark.parametrize("block", [1, 7, 10_000])
@pytest.mark.parametrize("kind", ["csr", "csc", "csc_array", "dense"])
def test_blocks_are_the_rows_in_the_order_asked_for(kind, block, dense):
    rows = np.random.default_rng(0).permutation(len(dense))[:50]
    blocks = list(iterate_rows(KINDS[kind](dense), rows, block))
    assert max(b.shape[0] for b in blocks) == min(block, 50)
    assert_equal(sp.csr_matrix(sp.vstack(blocks)), dense[rows])


def test_nan_and_inf_are_read_as_they_are():
    x = np.array([[0.0, np.nan, np.inf]])
    for matrix in (x, sp.csr_matrix(x)):
        np.testing.assert_array_equal(read_rows(matrix, np.array([0])).toarray(), x)
