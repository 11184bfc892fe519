"""Whatever has `read` and a length can be drawn from."""

import numpy as np
import pytest

from polygene_scverse.data.feed._source import draw_cells


@pytest.mark.parametrize("size", [0, 1, 40, 101, 1000])
def test_a_draw_has_each_cell_once_in_their_order(size, table):
    at = {int(i): row for row, i in enumerate(table.ids)}
    rows = [at[int(i)] for i in draw_cells(table, size, 0).ids]
    assert len(rows) == min(size, 101)
    assert (np.diff(rows) > 0).all()


def test_the_seed_decides_what_is_drawn_and_any_cell_may_be(table):
    a, b, c = (draw_cells(table, 40, seed).ids for seed in (0, 0, 1))
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, c)
    assert len(set(np.concatenate([draw_cells(table, 40, seed).ids for seed in range(20)]))) == 101


def test_only_the_drawn_cells_are_read_and_in_one_go(table):
    class Source:
        def __init__(self):
            self.asked = []

        def __len__(self):
            return len(table)

        def read(self, rows):
            self.asked.append(rows)
            return table.read(rows)

    source = Source()
    found = draw_cells(source, 40, 7)
    (rows,) = source.asked
    assert len(np.unique(rows)) == 40
    np.testing.assert_array_equal(rows, np.sort(rows))
    np.testing.assert_array_equal(found.ids, table.ids[rows])
