import numpy as np
import pytest

from polygene_scverse.data.feed._table import CellTable


@pytest.fixture
def mixed(table):
    """The same cells, of two sets of genes."""
    kinds = np.arange(101) % 3 % 2
    measured = np.stack([table.measured, table.measured & (np.arange(len(table.measured)) != 4)])
    return CellTable(table.cells, table.codes, table.ids, table.layout, measured, kinds)


def test_some_of_the_cells_are_read(table):
    rows = np.array([7, 3, 3, 99])
    part = table.read(rows)
    np.testing.assert_array_equal(part.ids, table.ids[rows])
    np.testing.assert_array_equal(part.codes, table.codes[rows])
    np.testing.assert_array_equal(part.cells.values, table.cells.take(rows).values)
    assert part.measured_in(np.arange(4)) is part.measured is table.measured
    assert part.kinds is None


def test_what_is_measured_is_a_row_for_each_cell_only_where_cells_differ(mixed):
    np.testing.assert_array_equal(mixed.measured_in(np.array([0, 1, 2])), mixed.measured[[0, 1, 0]])
    np.testing.assert_array_equal(mixed.measured_in(np.array([1, 4])), mixed.measured[1])
    assert mixed.measured_in(np.zeros(0, dtype=int)).shape == (0, len(mixed.layout.genes))
    part = mixed.read(np.array([4, 0]))
    np.testing.assert_array_equal(part.kinds, [1, 0])
    assert part.measured is mixed.measured


def test_a_part_has_the_cells_in_the_order_asked_for(table, mixed):
    rows = np.array([7, 3, 3, 99])
    for cells, kinds in ((table, np.zeros(4)), (mixed, mixed.kinds[rows])):
        part = cells.take(rows)
        np.testing.assert_array_equal(part.kinds, kinds)
        np.testing.assert_array_equal(part.ids, table.ids[rows])
        np.testing.assert_array_equal(part.codes, table.codes[rows])
        np.testing.assert_array_equal(part.cells.bins, table.cells.take(rows).bins)


def test_rebinned_is_the_same_table_with_other_bins(mixed):
    edges = np.array([0.0, 5.2, 7.0])
    coarse = mixed.rebinned(edges)
    for name in ("indptr", "genes", "bins", "values"):
        np.testing.assert_array_equal(getattr(coarse.cells, name), getattr(mixed.cells.rebin(edges), name))
    for name in ("codes", "ids", "layout", "measured", "kinds"):
        assert getattr(coarse, name) is getattr(mixed, name)
    np.testing.assert_array_equal(coarse.lengths, (mixed.cells.matrix(60).toarray() >= 5.2).sum(1))
