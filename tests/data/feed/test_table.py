import numpy as np
import pytest

from polygene_scverse.data.feed._table import draw_part


def test_some_of_the_cells_are_read(table):
    rows = np.array([7, 3, 3, 99])
    part = table.read(rows)
    np.testing.assert_array_equal(part.ids, table.ids[rows])
    np.testing.assert_array_equal(part.codes, table.codes[rows])
    np.testing.assert_array_equal(part.cells.values, table.cells.take(rows).values)
    assert part.measured_in(np.arange(4)) is part.measured is table.measured


@pytest.mark.parametrize("size", [0, 1, 40, 101, 1000])
def test_a_draw_has_each_cell_once_in_their_order(size, table):
    at = {int(i): row for row, i in enumerate(table.ids)}
    rows = [at[int(i)] for i in draw_part(table, size, 0).ids]
    assert len(rows) == min(size, 101)
    assert (np.diff(rows) > 0).all()


def test_the_seed_decides_what_is_drawn_and_any_cell_may_be(table):
    a, b, c = (draw_part(table, 40, seed).ids for seed in (0, 0, 1))
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, c)
    assert len(set(np.concatenate([draw_part(table, 40, seed).ids for seed in range(20)]))) == 101
