"""The oracle of what is read is the dense matrix, that of the scale `detect_scale` of all values."""

from dataclasses import replace

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from anndata import AnnData

import polygene_scverse as pgs
from polygene_scverse.data.read import _expression
from polygene_scverse.data.read._expression import Expression, place_name
from polygene_scverse.data.read._scale import COUNTS, OURS
from polygene_scverse.data.read._source import read_rows

ROWS = np.array([7, 3, 3, 40, 0, 22])
SAMPLED = np.unique(np.linspace(0, 299, 64).astype(int))
SMALL = {"n_hidden": 16, "n_layers": 1, "n_heads": 2, "n_intermediate": 16}
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
}


@pytest.fixture
def dense(simulated):
    return simulated.X.toarray()


@pytest.fixture
def backed(tmp_path):
    """A function that writes a matrix and opens it on disk."""
    opened = []

    def write(x):
        AnnData(x).write_h5ad(tmp_path / f"cells{len(opened)}.h5ad")
        opened.append(ad.read_h5ad(tmp_path / f"cells{len(opened)}.h5ad", backed="r"))
        return opened[-1]

    yield write
    for data in opened:
        data.file.close()


@pytest.fixture
def counted(monkeypatch):
    """Rows that are read of each matrix, call after call."""
    calls = []

    def read(x, rows):
        calls.append((x, np.array(rows)))
        return read_rows(x, rows)

    monkeypatch.setattr(_expression, "read_rows", read)
    return calls


def assert_equal(block, expected):
    """Same values, and as promised: float32, sorted, no zeros, each entry once."""
    assert isinstance(block, sp.csr_matrix)
    assert block.dtype == np.float32
    assert block.data.all()
    assert block.has_canonical_format
    np.testing.assert_array_equal(block.toarray(), expected)


# rows


@pytest.mark.parametrize("kind", [*KINDS, "backed csr", "backed csc", "backed dense", "view", "view of backed"])
def test_rows_and_scale_of_any_matrix(kind, dense, backed):
    data = AnnData(KINDS[kind](dense)) if kind in KINDS else AnnData(sp.csr_matrix(dense))
    rows = ROWS
    if kind.startswith("backed"):
        data = backed(KINDS[kind.split()[1]](dense))
    if kind.startswith("view"):
        data = (backed(data.X) if kind.endswith("backed") else data)[np.arange(300)[::-1]]
        rows = len(dense) - 1 - ROWS
    found = Expression.of(data)
    assert (found.n_obs, found.scale, len(found.var_names)) == (300, COUNTS, 60)
    assert_equal(found.rows(rows), dense[ROWS])
    assert_equal(found.rows(rows[:0]), dense[:0])


@pytest.mark.parametrize("size", [1, 7, 10_000, None])
def test_blocks_are_the_rows_in_the_order_asked_for(size, dense, monkeypatch):
    monkeypatch.setattr(_expression, "BLOCK", 16)
    rows = np.random.default_rng(0).permutation(len(dense))[:50]
    blocks = list(Expression.of(AnnData(sp.csr_matrix(dense))).blocks(rows, size))
    assert max(block.shape[0] for block in blocks) == min(size or 16, 50)
    assert_equal(sp.csr_matrix(sp.vstack(blocks)), dense[rows])


@pytest.mark.parametrize("on_disk", [False, True], ids=["memory", "disk"])
def test_a_matrix_stored_by_column_is_converted_once(on_disk, dense, backed, monkeypatch):
    calls, convert = [], sp.csc_matrix.tocsr
    x = sp.csc_matrix(dense)
    found = Expression.of(backed(x) if on_disk else AnnData(x))
    monkeypatch.setattr(sp.csc_matrix, "tocsr", lambda self, copy=False: calls.append(self.shape) or convert(self))
    for rows in (ROWS, np.arange(300), ROWS[:1]):
        assert_equal(found.rows(rows), dense[rows])
    assert len(list(found.blocks(np.arange(300), 7))) == 43
    assert calls == [(300, 60)]


def test_a_matrix_stored_by_row_is_not_copied(dense):
    x = sp.csr_matrix(dense)
    found = Expression.of(AnnData(x))
    assert found._by_row is found.matrix


# scale


def log_values(dense):
    return np.log1p(dense / np.maximum(dense.sum(1, keepdims=True), 1) * 1e4)


def test_the_sample_decides_whichever_rows_are_asked_for(dense):
    """Cells whose log values happen to be whole numbers are log values all the same."""
    x = log_values(dense)
    whole = np.setdiff1d(np.arange(300), SAMPLED)[:20]
    x[whole] = np.rint(x[whole])
    found = Expression.of(AnnData(sp.csr_matrix(x)))
    np.testing.assert_array_equal(found.rows(whole).toarray(), np.rint(x[whole]).astype(np.float32))
    assert found.scale == OURS


def test_the_scale_is_found_once_from_some_rows(dense, counted):
    found = Expression.of(AnnData(sp.csr_matrix(dense)))
    assert [found.scale, found.scale] == [COUNTS, COUNTS]
    found.rows(ROWS)
    (_, sampled), (_, asked) = counted
    np.testing.assert_array_equal(sampled, SAMPLED)
    np.testing.assert_array_equal(asked, ROWS)


@pytest.mark.parametrize("silent", [SAMPLED, np.arange(290)], ids=["sampled", "first"])
def test_cells_without_expression_do_not_decide(silent, dense, monkeypatch):
    monkeypatch.setattr(_expression, "BLOCK", 10)
    monkeypatch.setattr(_expression, "SAMPLE_ROWS", 3 if len(silent) == 290 else 64)  # the last row is always one
    x = log_values(dense)
    x[silent] = x[-1] = 0.0
    assert Expression.of(AnnData(sp.csr_matrix(x))).scale == OURS
    assert Expression.of(AnnData(sp.csr_matrix(np.where(x > 0, np.rint(x + 1), 0.0)))).scale == COUNTS


def test_cells_are_looked_through_only_until_one_expresses_something(dense, counted, monkeypatch):
    monkeypatch.setattr(_expression, "BLOCK", 10)
    x = dense.copy()
    x[SAMPLED] = x[:25] = 0.0
    assert Expression.of(AnnData(sp.csr_matrix(x))).scale == COUNTS
    assert [rows.tolist() for _, rows in counted[1:]] == [list(range(k, k + 10)) for k in (0, 10, 20)]


def test_nothing_expressed_at_all_is_refused():
    with pytest.raises(ValueError, match=r"`adata`: adata\.X has no value above 0"):
        _ = Expression.of(AnnData(sp.csr_matrix((300, 4), dtype=np.float32))).scale


SPOILED = {
    "negative": (-1.0, r"adata\.X has negative values \(lowest -1\)"),
    "nan": (np.nan, r"1 values of adata\.X are NaN"),
    "infinite": (np.inf, r"1 values of adata\.X are infinite"),
    "too large": (250.0, r"adata\.X was read as log1p of counts per 10,000, but has values up to 250"),
}
REMEDY = r", here for example by layer='counts' or use_raw=True\.$"


@pytest.mark.parametrize(("value", "message"), SPOILED.values(), ids=SPOILED)
@pytest.mark.parametrize("sampled", [True, False], ids=["in the sample", "elsewhere"])
def test_values_that_cannot_be_are_refused_and_other_places_named(sampled, value, message, three_places, dense):
    """Those of the sample at once, others when they are read; rows around them are welcome."""
    x = log_values(dense)
    row = 0 if sampled else 2
    x[row, 5] = value
    three_places.X = x.astype(np.float32)
    found = Expression.of(three_places)
    if sampled:
        with pytest.raises(ValueError, match=message + ".*" + REMEDY):
            _ = found.scale
    else:
        assert row not in SAMPLED
        np.testing.assert_allclose(found.rows(np.array([1, 3])).toarray(), x[[1, 3]], rtol=1e-6)
    with pytest.raises(ValueError, match=message + ".*" + REMEDY):
        found.rows(np.array([1, row]))
    with pytest.raises(ValueError, match=message + ".*" + REMEDY):
        found.loaded()


def test_without_another_place_none_is_named(dense):
    with pytest.raises(ValueError, match=r"Pass unscaled data\.$"):
        Expression.of(AnnData(dense - 1)).rows(ROWS)


# kept in memory


@pytest.mark.parametrize("kind", [*KINDS, "backed csr", "backed csc", "backed dense", "raw"])
def test_loaded_is_the_same_expression(kind, dense, backed, counted, monkeypatch):
    monkeypatch.setattr(_expression, "BLOCK", 90)
    x = KINDS.get(kind.removeprefix("backed "), sp.csr_matrix)(log_values(dense) if "int" not in kind else dense)
    data = backed(x) if kind.startswith("backed") else AnnData(x)
    if kind == "raw":
        data.raw = data.copy()
    found = Expression.of(data, use_raw=kind == "raw")
    kept = found.loaded()
    assert (kept.scale, kept.where, kept.n_obs) == (found.scale, found.where, 300)
    assert kept.var_names.equals(found.var_names)
    assert kept.adata is found.adata
    assert sum(len(rows) for _, rows in counted) == 300 + 64
    n_read = len(counted)
    assert_equal(kept.rows(ROWS), read_rows(np.asarray(x.todense() if sp.issparse(x) else x), ROWS).toarray())
    assert_equal(sp.vstack(list(kept.blocks(np.arange(300))), format="csr"), kept.matrix.toarray())
    assert all(matrix is kept.matrix for matrix, _ in counted[n_read:])


def test_a_matrix_too_large_is_left_where_it_is(dense, backed, counted, monkeypatch):
    """In memory it is not even read; on disk no more than what is kept at most."""
    monkeypatch.setattr(_expression, "LOADED_ENTRIES", 2000)
    monkeypatch.setattr(_expression, "BLOCK", 50)
    n_rows = np.searchsorted(np.cumsum((dense > 0).sum(1)), 2000, side="right") + 1
    found = Expression.of(AnnData(sp.csr_matrix(dense)))
    assert found.loaded() is found
    assert counted == []
    for data in (AnnData(dense), backed(sp.csr_matrix(dense)), backed(dense)):
        found = Expression.of(data)
        counted.clear()
        assert found.loaded() is found
        assert sum(len(rows) for _, rows in counted) == 64 + 50 * -(-n_rows // 50)
        assert_equal(found.rows(ROWS), dense[ROWS])


def test_a_matrix_of_just_the_size_is_loaded(dense, monkeypatch):
    n_stored = int((dense > 0).sum())
    for limit, kept in ((n_stored, True), (n_stored - 1, False)):
        monkeypatch.setattr(_expression, "LOADED_ENTRIES", limit)
        for x in (sp.csr_matrix(dense), dense):
            found = Expression.of(AnnData(x))
            assert (found.loaded() is not found) == kept


# how often cells are read


@pytest.mark.parametrize("kind", ["csr", "dense"])
def test_training_reads_each_row_once(kind, simulated, counted):
    simulated.X = KINDS[kind](simulated.X.toarray())
    kwargs = {"max_epochs": 1, "verbose": False, "model_kwargs": SMALL}
    pgs.tl.train(simulated, phenotypes="sex", n_genes=20, **kwargs)
    of_data = [rows for matrix, rows in counted if matrix is simulated.X]
    sampled, *read = sorted(of_data, key=len)
    np.testing.assert_array_equal(sampled, SAMPLED)
    np.testing.assert_array_equal(np.concatenate(read), np.arange(300))


@pytest.mark.parametrize("on_disk", [False, True], ids=["memory", "disk"])
def test_prediction_reads_each_row_once(on_disk, simulated, counted, tmp_path):
    kwargs = {"max_epochs": 1, "verbose": False, "model_kwargs": SMALL}
    model = pgs.tl.train(simulated, phenotypes="sex", n_genes=20, **kwargs)
    if on_disk:
        simulated.write_h5ad(tmp_path / "cells.h5ad")
    data = ad.read_h5ad(tmp_path / "cells.h5ad", backed="r") if on_disk else simulated
    counted.clear()
    model.predict_phenotype(data)
    (_, sampled), *read = counted
    np.testing.assert_array_equal(sampled, SAMPLED)
    np.testing.assert_array_equal(np.concatenate([rows for _, rows in read]), np.arange(300))
    if on_disk:
        data.file.close()


# places


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
    found = Expression.of(three_places, **arguments)
    np.testing.assert_array_equal(read_rows(found.matrix, ROWS).toarray(), (factor * dense + shift)[ROWS, ::step])
    assert list(found.var_names) == [str(i) for i in range(dense.shape[1])][::step]
    assert found.where == place_name(arguments.get("layer"), arguments.get("use_raw", False)) == name
    assert found.n_obs == len(dense)


def test_other_places_are_those_that_can_be_read(three_places):
    assert Expression.of(three_places)._other_places() == ", here for example by layer='counts' or use_raw=True"
    three_places.X = abs(three_places.X)
    assert (
        Expression.of(three_places, use_raw=True)._other_places()
        == ", here for example by layer='counts' or layer=None, use_raw=False (adata.X)"
    )
    few = Expression.of(three_places[:, :5].copy(), layer="counts")
    assert few._other_places().startswith(", here for example by use_raw")
    for_a_query = replace(few, has_arguments=False)
    assert for_a_query._other_places().startswith(", here for example by adata = adata.raw.to_adata() or adata.layers")


def test_a_place_with_the_same_values_is_no_other(three_places):
    three_places.layers["twice"] = three_places.layers["counts"].copy()
    places = Expression.of(three_places, layer="counts")._other_places()
    assert places == ", here for example by use_raw=True"


def test_a_place_with_a_value_that_cannot_be_is_no_other(three_places, dense):
    x = log_values(dense)
    three_places.layers["logs"] = x
    assert "layer='logs'" in Expression.of(three_places)._other_places()
    x = x.copy()
    x[0, 5] = 250.0
    three_places.layers["logs"] = x
    assert "layer='logs'" not in Expression.of(three_places)._other_places()


def test_no_other_place(dense):
    assert Expression.of(AnnData(dense - 1))._other_places() == ""
    infinite = AnnData(dense, layers={"l": np.full(dense.shape, np.inf)})
    assert Expression.of(infinite)._other_places() == ""


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"use_raw": True, "layer": "l"}, ValueError, "`use_raw`: found True together with layer='l'"),
        ({"use_raw": True}, ValueError, r"`use_raw`: found True, but adata\.raw is empty"),
        ({"layer": "x"}, KeyError, r"`layer`: 'x' is not one of the layers \['l'\]"),
        ({}, ValueError, r"`adata`: adata\.X is empty\. Pass layer= with one of \['l'\]"),
    ],
    ids=["both", "no raw", "no layer", "no X"],
)
def test_places_that_are_not_there(arguments, error, message, dense):
    adata = AnnData(obs=pd.DataFrame(index=[str(i) for i in range(len(dense))]), layers={"l": dense})
    with pytest.raises(error, match=message):
        Expression.of(adata, **arguments)


@pytest.mark.parametrize("shape", [(0, 4), (4, 0)], ids=["no cells", "no genes"])
def test_empty_data(shape):
    with pytest.raises(ValueError, match=rf"`adata`: found {shape[0]} cells and {shape[1]} genes"):
        Expression.of(AnnData(np.zeros(shape, dtype=np.float32)))


@pytest.mark.filterwarnings("ignore:Variable names are not unique")
@pytest.mark.parametrize("use_raw", [False, True], ids=["X", "raw"])
def test_names_that_repeat(use_raw):
    adata = AnnData(np.ones((2, 3)), var=pd.DataFrame(index=["a", "b", "a"]))
    adata.raw = adata.copy()
    adata = adata[:, :2].copy() if use_raw else adata
    with pytest.raises(ValueError, match=rf"occur more than once in adata\.{'raw.' if use_raw else ''}var_names"):
        Expression.of(adata, use_raw=use_raw)
