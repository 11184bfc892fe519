"""Which cells come into a batch together."""

import numpy as np
import pytest

from polygene_scverse.data._dataloader import LengthSampler
from polygene_scverse.data._masking import MaskingRates, draw
from polygene_scverse.data._tokens import Cells
from polygene_scverse.data._windows import DrawnLengths, sort_window

N, N_GENES = 1009, 499


@pytest.fixture(scope="module")
def cells():
    """Cells that express 20 to 120 genes."""
    rng = np.random.default_rng(0)
    genes = [np.sort(rng.permutation(N_GENES)[: rng.integers(20, 121)]) for _ in range(N)]
    indptr = np.concatenate([[0], np.cumsum([len(g) for g in genes])])
    n = int(indptr[-1])
    return Cells(indptr, np.concatenate(genes).astype(np.int32), np.ones(n, np.int16), np.ones(n, np.float32))


@pytest.mark.parametrize(
    "rates",
    [MaskingRates(), MaskingRates(gene_dropout=0.0, max_genes=50), MaskingRates(not_expressed=0.15)],
    ids=["default", "max_genes", "original"],
)
def test_lengths_are_those_of_the_draw(cells, rates):
    ids, at = np.arange(N) + 7, np.array([5, 1000, 3, 17])
    n_visible, n_targets = DrawnLengths(cells, ids, rates, seed=3)(2, at)
    some = cells.take(at)
    masking = draw(some, ids[at], np.ones(N_GENES, dtype=bool), 1, rates, seed=3, epoch=2)
    rows = np.repeat(np.arange(4), some.lengths)
    np.testing.assert_array_equal(n_visible, np.bincount(rows[masking.visible], minlength=4))
    np.testing.assert_array_equal(n_targets, np.bincount(rows[masking.target], minlength=4))


def test_cells_without_expressed_genes_have_no_length(cells):
    empty = Cells(np.zeros(4, np.int64), cells.genes[:0], cells.bins[:0], cells.values[:0])
    for numbers in DrawnLengths(empty, np.arange(3), MaskingRates(), seed=0)(0, np.arange(3)):
        np.testing.assert_array_equal(numbers, [0, 0, 0])


def test_a_window_is_sorted_by_targets_and_then_by_visible_genes():
    n_targets, n_visible = np.array([9, 1, 8, 1, 2, 9, 2, 7, 3]), np.array([1, 4, 0, 3, 2, 5, 1, 9, 6])
    order = sort_window(np.repeat(n_visible, 2), np.repeat(n_targets, 2), batch_size=1)
    groups = [order[:8], order[8:16], order[16:]]
    assert [sorted(np.repeat(n_targets, 2)[g]) for g in groups] == [[1] * 4 + [2] * 4, [3, 3, 7, 7, 8, 8, 9, 9], [9, 9]]
    for group in groups:
        assert np.all(np.diff(np.repeat(n_visible, 2)[group]) >= 0)


def test_padding_is_less_where_the_draw_is_known(cells):
    drawn = DrawnLengths(cells, np.arange(N), MaskingRates(), seed=0)
    n_visible, n_targets = drawn(0, np.arange(N))

    def padding(**kwargs):
        batches = LengthSampler(cells.lengths, 16, shuffle=True, **kwargs).batches()
        assert sorted(np.concatenate(batches)) == list(range(N))
        padded = sum(len(rows) * (n_visible[rows].max() + 2 * n_targets[rows].max()) for rows in batches)
        return 1 - (n_visible + 2 * n_targets).sum() / padded

    assert padding() > 0.2
    assert padding(drawn=drawn) < 0.15


def test_the_order_is_that_of_the_epoch(cells):
    drawn = DrawnLengths(cells, np.arange(N), MaskingRates(), seed=0)
    sampler, orders = LengthSampler(cells.lengths, 16, shuffle=True, drawn=drawn), []
    for epoch in (0, 1, 0):
        sampler.set_epoch(epoch)
        orders.append(np.concatenate(sampler.batches()))
    np.testing.assert_array_equal(orders[0], orders[2])
    assert not np.array_equal(orders[0], orders[1])
