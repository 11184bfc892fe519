"""The oracle of every way to read is the dense matrix."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from anndata import AnnData

from polygene_scverse.data.read._source import expression, iterate_rows, other_places, place, read_rows

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
    x, _ = expression(backed, **arguments)
    assert_equal(read_rows(x, ROWS), dense[ROWS])
    assert_equal(read_rows(x, ROWS[:0]), dense[ROWS[:0]])
    backed.file.close()


@pytest.mark.parametrize("kind", ["csr", "dense", "csr_array"])
def test_read_rows_of_views(kind, dense, tmp_path):
    adata = AnnData(KINDS[kind](dense))
    adata.write_h5ad(tmp_path / "cells.h5ad")
    backed = ad.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    part = np.arange(200, 100, -1)
    for data in (adata, backed):
        x, names = expression(data[part, 5:])
        assert_equal(read_rows(x, ROWS), dense[part, 5:][ROWS])
        assert list(names) == [str(i) for i in range(5, dense.shape[1])]
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


@pytest.fixture
def three_places(dense):
    """X is scaled, raw and the layer "counts" are usable, the layer "scaled" is not."""
    adata = AnnData(sp.csr_matrix(dense))
    adata.raw = adata[:, ::-1].copy()
    adata.layers["counts"] = sp.csr_matrix(2 * dense)
    adata.layers["scaled"] = dense - 1
    adata.X = dense - 1
    return adata


@pytest.mark.parametrize(
    ("arguments", "factor", "shift", "step", "name"),
    [
        ({}, 1, -1, 1, "adata.X"),
        ({"layer": "counts"}, 2, 0, 1, "adata.layers['counts']"),
        ({"use_raw": True}, 1, 0, -1, "adata.raw.X"),
    ],
    ids=["X", "layer", "raw"],
)
def test_expression_of_each_place(arguments, factor, shift, step, name, three_places, dense):
    x, names = expression(three_places, **arguments)
    np.testing.assert_array_equal(read_rows(x, ROWS).toarray(), (factor * dense + shift)[ROWS, ::step])
    assert list(names) == [str(i) for i in range(dense.shape[1])][::step]
    assert place(arguments.get("layer"), arguments.get("use_raw", False)) == name


def test_other_places_are_those_that_can_be_read(three_places):
    assert other_places(three_places, "adata.X") == ", here for example by layer='counts' or use_raw=True"
    three_places.X = abs(three_places.X)
    assert (
        other_places(three_places, "adata.raw.X")
        == ", here for example by layer='counts' or layer=None, use_raw=False (adata.X)"
    )
    assert other_places(three_places[:, :5].copy(), "adata.layers['counts']").startswith(
        ", here for example by use_raw"
    )


def test_no_other_place(dense):
    assert other_places(AnnData(dense - 1), "adata.X") == ""
    infinite = AnnData(dense, layers={"l": np.full(dense.shape, np.inf)})
    assert other_places(infinite, "adata.X") == ""


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"use_raw": True, "layer": "l"}, ValueError, "`use_raw`: found True together with layer='l'"),
        ({"use_raw": True}, ValueError, r"`use_raw`: found True, but adata\.raw is empty"),
        ({"layer": "x"}, KeyError, r"`layer`: 'x' is not among the layers \['l'\]"),
        ({}, ValueError, r"`adata`: adata\.X is empty\. Pass layer= with one of \['l'\]"),
    ],
    ids=["both", "no raw", "no layer", "no X"],
)
def test_places_that_are_not_there(arguments, error, message, dense):
    adata = AnnData(obs=pd.DataFrame(index=[str(i) for i in range(len(dense))]), layers={"l": dense})
    with pytest.raises(error, match=message):
        expression(adata, **arguments)


@pytest.mark.parametrize("shape", [(0, 4), (4, 0)], ids=["no cells", "no genes"])
def test_empty_data(shape):
    with pytest.raises(ValueError, match=rf"`adata`: found {shape[0]} cells and {shape[1]} genes"):
        expression(AnnData(np.zeros(shape, dtype=np.float32)))


@pytest.mark.filterwarnings("ignore:Variable names are not unique")
@pytest.mark.parametrize("use_raw", [False, True], ids=["X", "raw"])
def test_names_that_repeat(use_raw):
    adata = AnnData(np.ones((2, 3)), var=pd.DataFrame(index=["a", "b", "a"]))
    adata.raw = adata.copy()
    adata = adata[:, :2].copy() if use_raw else adata
    with pytest.raises(ValueError, match=rf"occur more than once in adata\.{'raw.' if use_raw else ''}var_names"):
        expression(adata, use_raw=use_raw)
