import numpy as np
import pandas as pd
import pytest

from polygene_scverse._layout import TokenLayout
from polygene_scverse.data.feed._table import CellTable
from polygene_scverse.data.read._tokens import Cells
from polygene_scverse.model._growth import grown_order, lost_by, with_added, with_rehearsal
from polygene_scverse.model.training._training import TrainingCells

OLD = TokenLayout.build({"type": ["a", "b"]}, ["g0", "g1"], 4)
NEW = OLD.grown({"type": ["c"], "sex": ["f", "m"]}, ["g2"])


def table(layout, codes, first=0):
    """Cells that each express gene 1 in a bin of their own."""
    n = len(codes)
    bins = (1 + np.arange(n) % 3).astype(np.int16)
    cells = Cells(np.arange(n + 1), np.ones(n, dtype=np.int32), bins, bins.astype(np.float32))
    codes = np.array(codes, dtype=np.int64)
    return CellTable(cells, codes, first + np.arange(n), layout, np.ones(layout.n_genes, dtype=bool))


def test_what_is_added_adds_up():
    once = with_added({}, "type", "c", ["a", "b"], False)
    twice = with_added(once, "type", ["d", 5.0], ["a", "b"], False)
    assert twice == {"type": {"categories": ["c", "d", "5"], "ordered": False}}
    assert once == {"type": {"categories": ["c"], "ordered": False}}
    for wrong in (["c"], ["a"], [None], [], ["x", "x"]):
        with pytest.raises(ValueError, match="`categories`"):
            with_added(once, "type", wrong, ["a", "b"], False)


def test_values_of_new_categories():
    assert grown_order({"values": [30.0, 10.0], "numeric": True}, ["20-29"]) == {
        "values": [30.0, 10.0, 24.5],
        "numeric": True,
    }
    assert grown_order({"values": [1.0, 0.0], "numeric": False}, ["x", "7"])["values"] == [1.0, 0.0, 2.0, 3.0]


def test_drawn_cells_stand_behind_the_others():
    own = TrainingCells(table(NEW, [[2, 0]] * 6), table(NEW, [[2, 1]] * 2, first=6), [0.0, 1.0, 2.0, 3.0])
    both = with_rehearsal(own, table(OLD, [[0], [1]] * 4), 8, seed=0)
    train, held_out = both.train, both.validation
    assert (len(train), len(held_out)) == (12, 4)
    assert sorted([*train.ids, *held_out.ids]) == list(range(16))
    drawn = train.ids >= 8
    assert set(map(tuple, train.codes[drawn])) == {(0, -1), (1, -1)}
    assert train.measured_in(np.flatnonzero(drawn)).tolist() == [True, True, False]
    assert train.measured_in(np.flatnonzero(~drawn)).tolist() == [True, True, True]
    assert train.cells.matrix(3).toarray()[drawn, 1].tolist() == [(1 + i % 3) for i in train.ids[drawn] - 8]
    assert train.layout is NEW


def test_drawn_cells_are_a_group_and_none_is_held_out_with_groups():
    groups = pd.Series(pd.Categorical(["x", "y"] * 4), name="donor")
    own = TrainingCells(table(NEW, [[2, 0]] * 6), table(NEW, [[2, 1]] * 2, first=6), [0.0, 1.0, 2.0, 3.0], groups)
    both = with_rehearsal(own, table(OLD, [[0], [1]]), 8, seed=0)
    assert len(both.validation) == 2
    assert both.groups.iloc[both.train.ids].tolist() == [*["x", "y"] * 3, *[np.nan] * 2]
    assert both.groups.name == "donor"


def test_tables_of_the_same_genes_become_one_of_these_genes():
    both = CellTable.concatenate([table(OLD, [[0]]), table(OLD, [[1], [0]], first=1)])
    assert both.kinds is None
    assert both.measured.tolist() == [True, True]
    assert both.codes.ravel().tolist() == [0, 1, 0]
    assert both.lengths.tolist() == [1, 1, 1]


def test_what_no_new_cell_has_is_lost():
    codes = np.array([[0, -1], [0, 1]])
    known = {"type": ["a", "b"], "sex": ["f", "m"]}
    assert lost_by([np.array([3.0, 2.0]), np.array([0.0, 9.0])], codes, known) == {"type": ["b"]}
    assert lost_by([], codes, known) == {"type": ["b"], "sex": ["f"]}
