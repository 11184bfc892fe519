import numpy as np
import pytest

from polygene_scverse.abilities import _rehearse
from polygene_scverse.abilities._rehearse import earlier_cells, missing_kinds, rehearsal_cells
from polygene_scverse.engine import Engine
from polygene_scverse.fit._kinds import Kinds


@pytest.fixture
def kinds():
    codes = np.array([[0, -1], [0, 1], [1, 0], [-1, -1]])
    return Kinds(codes, np.array([30.0, 5.0, 8.0, 100.0]), np.zeros((1, 21), dtype=np.float32))


def test_what_new_cells_lack_of_each_combination(simulated_and_model, kinds):
    state = simulated_and_model[1].fitted_
    state.kinds = kinds
    new = np.array([[0, 1]] * 7 + [[1, 0]] * 3 + [[-1, -1]] * 2)
    found, n_cells = missing_kinds(state, new)
    assert found.tolist() == [[0, -1], [1, 0]]
    assert n_cells.tolist() == [30, 5]


def test_many_are_cut_to_a_share_of_each(simulated_and_model, kinds, monkeypatch):
    monkeypatch.setattr(_rehearse, "MOST_CELLS", 20)
    monkeypatch.setattr(_rehearse, "FEWEST", 3)
    state = simulated_and_model[1].fitted_
    state.kinds = kinds
    assert missing_kinds(state, np.empty((0, 2), dtype=np.int64))[1].tolist() == [13, 3, 3]


def test_nothing_is_drawn_where_nothing_is_kept(simulated_and_model):
    state = simulated_and_model[1].fitted_
    state.counts = None
    assert missing_kinds(state, np.empty((0, 2), dtype=np.int64)) is None


def test_drawn_cells_are_like_the_training_cells(simulated_and_model):
    cells, model = simulated_and_model
    wanted = np.array([[0, 0], [2, 1]])
    edges = np.array(model.edges_)
    table = rehearsal_cells(Engine(model.module), model.fitted_, wanted, np.array([300, 200]), edges, 0)
    assert table.codes.tolist() == [[0, 0]] * 300 + [[2, 1]] * 200
    x = table.cells.matrix(model.layout.n_genes).toarray()
    assert np.array_equal(np.searchsorted(edges, table.cells.values, side="right") - 1, table.cells.bins)
    logs = cells[:, model.genes].X.toarray() / np.asarray(cells.X.sum(1)) * 1e4
    for kind, rows in ((("B cell", "female"), slice(0, 300)), (("T cell", "male"), slice(300, 500))):
        own = (cells.obs["cell_type"].astype(str) == kind[0]) & (cells.obs["sex"].astype(str) == kind[1])
        real = np.log1p(logs)[own.to_numpy()].mean(0)
        assert np.corrcoef(x[rows].mean(0), real)[0, 1] > 0.95
    again = rehearsal_cells(Engine(model.module), model.fitted_, wanted, np.array([300, 200]), edges, 0)
    assert np.array_equal(again.cells.values, table.cells.values)


def test_what_is_kept_of_earlier_cells(simulated_and_model):
    model = simulated_and_model[1]
    engine, state = Engine(model.module), model.fitted_
    found = earlier_cells(engine, state, 77)
    assert found.first_id == 77
    assert found.n_categories == tuple(model.module.n_categories)
    centre = model.module.linear.centre.numpy()[state.panels.genes]
    np.testing.assert_array_equal(found.centre, centre.astype(float))
    np.testing.assert_array_equal(found.products[np.triu_indices(len(centre))], state.panels.products.astype(float))
    np.testing.assert_array_equal(found.products, found.products.T)
    model.module.linear = None
    assert earlier_cells(engine, state, 77) is None


def test_models_of_before_keep_none(simulated_and_model):
    model = simulated_and_model[1]
    model.fitted_.panels = None
    assert earlier_cells(Engine(model.module), model.fitted_, 77) is None
