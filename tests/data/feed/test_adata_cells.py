"""The oracle of cells that are read when they are needed is the dense matrix."""

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp

from polygene_scverse._layout import TokenLayout
from polygene_scverse.data.feed._adata_cells import AnnDataCells
from polygene_scverse.data.feed._source import draw_cells
from polygene_scverse.data.read import _expression
from polygene_scverse.data.read._expression import Expression
from polygene_scverse.data.read._source import read_rows

COLUMNS = {"cell_type": ["B cell", "NK cell", "T cell"], "sex": ["female", "male"]}
EDGES = np.array([0, 4.5, 5.0, 5.5, 6.0])
IDS = np.random.default_rng(0).permutation(300)[:101]
GENES = [f"gene{i}" for i in range(20, 3, -2)]


def cells_of(data, rows=IDS, genes=GENES, columns=COLUMNS):
    layout = TokenLayout.build(COLUMNS, genes, len(EDGES))
    return AnnDataCells.of(Expression.of(data), data.obs, rows, layout, columns, EDGES)


def log_values(adata):
    dense = adata.X.toarray()
    return np.log1p(dense / dense.sum(1, keepdims=True) * 1e4)


def codes_of(obs):
    """By hand: unknown labels have no code."""
    return np.array([[c.index(v) if v in c else -1 for v in obs[name]] for name, c in COLUMNS.items()]).T


@pytest.mark.parametrize("kind", ["csr", "csc", "dense", "backed csr", "backed csc", "backed dense"])
@pytest.mark.parametrize("at", [np.arange(101), np.array([5, 60, 99]), np.array([60, 5, 5]), np.zeros(0, dtype=int)])
def test_cells_are_rows_of_the_dense_matrix(at, kind, simulated, tmp_path):
    ids, values = IDS[at], log_values(simulated)
    expected = values[ids][:, simulated.var_names.get_indexer(GENES)]
    obs = simulated.obs
    x = {"csr": sp.csr_matrix, "csc": sp.csc_matrix, "dense": lambda x: x.toarray()}[kind.split()[-1]](simulated.X)
    data = ad.AnnData(x, obs=obs, var=simulated.var)
    if kind.startswith("backed"):
        data.write_h5ad(tmp_path / "cells.h5ad")
        data = ad.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    cells = cells_of(data)
    table = cells.read(at)
    np.testing.assert_allclose(table.cells.matrix(9).toarray(), np.where(expected >= 4.5, expected, 0), rtol=1e-6)
    bins = sp.csr_matrix((table.cells.bins, table.cells.genes, table.cells.indptr), shape=(len(at), 9)).toarray()
    np.testing.assert_array_equal(bins, np.digitize(expected.astype(np.float32).astype(float), EDGES) - 1)
    np.testing.assert_array_equal(table.ids, ids)
    np.testing.assert_array_equal(table.codes, codes_of(obs.iloc[ids]).reshape(-1, 2))
    assert (len(cells), table.kinds) == (101, None)
    assert table.measured.all()
    if kind.startswith("backed"):
        data.file.close()


def test_labels_that_are_missing_or_not_known_or_in_no_column_have_no_code(simulated):
    cells = cells_of(simulated)
    np.testing.assert_array_equal(cells.codes, codes_of(simulated.obs.iloc[IDS]))
    assert (cells.codes == -1).any(axis=0).all()
    del simulated.obs["sex"]
    found = cells_of(simulated).codes
    np.testing.assert_array_equal(found[:, 0], cells.codes[:, 0])
    assert (found[:, 1] == -1).all()


def test_expression_is_read_when_it_is_asked_for(simulated, monkeypatch):
    asked = []
    monkeypatch.setattr(_expression, "read_rows", lambda x, rows: asked.append(np.array(rows)) or read_rows(x, rows))
    cells = cells_of(simulated)
    assert [len(rows) for rows in asked] == [64]  # those that tell the scale
    cells.read(np.array([9, 4, 4]))
    np.testing.assert_array_equal(asked[1], IDS[[9, 4, 4]])
    cells.read_all()
    np.testing.assert_array_equal(np.concatenate(asked[2:]), IDS)


def test_all_of_the_cells_are_those_read_by_position(simulated):
    cells = cells_of(simulated)
    whole, parts = cells.read_all(), [cells.read(np.arange(a, b)) for a, b in ((0, 40), (40, 101))]
    np.testing.assert_array_equal(whole.ids, np.concatenate([part.ids for part in parts]))
    np.testing.assert_array_equal(whole.codes, np.concatenate([part.codes for part in parts]))
    np.testing.assert_array_equal(whole.cells.values, np.concatenate([part.cells.values for part in parts]))
    drawn, of_all = draw_cells(cells, 50, 3), draw_cells(whole, 50, 3)
    np.testing.assert_array_equal(drawn.ids, of_all.ids)
    np.testing.assert_array_equal(drawn.cells.bins, of_all.cells.bins)


def test_genes_that_are_not_there_are_unmeasured_and_named(simulated):
    cells = cells_of(simulated, genes=["gene3", "absent", "gene1", "gone"])
    np.testing.assert_array_equal(cells.read_all().measured, [True, False, True, False])
    with pytest.warns(UserWarning, match=r"2 of the model's 4 genes are unmeasured .*: \['absent', 'gone'\]\. They"):
        cells.warn_unmeasured()
    cells_of(simulated).warn_unmeasured()  # all are there: no warning


def test_data_that_cannot_be_used_are_refused_at_once(simulated):
    with pytest.raises(ValueError, match=r"`adata`: none of its 60 genes, .* is among the 2 genes of the model"):
        cells_of(simulated, genes=["a", "b"])
    simulated.X = simulated.X - sp.csr_matrix(np.ones((300, 60)))
    with pytest.raises(ValueError, match=r"adata\.X has negative values"):
        cells_of(simulated)
