"""2 phenotypes (2 and 3 categories), 7 genes, 4 bins: ids 7, 8 "no value", 9-10, 11-13 categories, 14-17 bins."""

from dataclasses import replace

import numpy as np
import pytest

from polygene_scverse._layout import CLS, END, MASK, PAD, START, TokenLayout
from polygene_scverse.data.feed._batch import make_batch
from polygene_scverse.data.feed._masking import Masking, MaskingRates, ask, draw
from polygene_scverse.data.read._tokens import Cells

LAYOUT = TokenLayout.build({"sex": ["f", "m"], "fate": ["a", "b", "c"]}, list("ABCDEFG"), 4)
CELLS = Cells(
    indptr=np.array([0, 3, 3, 5]),
    genes=np.array([0, 2, 6, 1, 5], dtype=np.int32),
    bins=np.array([1, 2, 3, 3, 1], dtype=np.int16),
    values=np.array([0.5, 1.5, 2.5, 3.5, 4.5], dtype=np.float32),
)
CODES = np.array([[1, 2], [0, -1], [-1, 0]])
NO_GENES = np.zeros(0, dtype=np.int64)
SHOWN = np.zeros((3, 2), dtype=bool)
MASKING = Masking(
    visible=np.array([True, False, True, False, True]),
    target=np.array([False, True, False, False, False]),
    zero_rows=np.array([0, 2, 2]),
    zero_genes=np.array([1, 3, 0]),
    log_sampling_ratio=np.array([0.1, 0.2, 0.3], dtype=np.float32),
    hidden=np.array([[True, False], [False, False], [False, True]]),
)


def test_a_batch_by_hand():
    """Positions: CLS 0, sex 1, fate 2, START 3, genes 4 … 10, END 11."""
    batch = make_batch(CELLS, MASKING, LAYOUT, CODES)
    expected = [
        [CLS, MASK, 13, START, END, 15, 17, MASK, MASK],
        [CLS, 9, 8, START, END, PAD, PAD, PAD, PAD],
        [CLS, 7, MASK, START, END, 15, PAD, MASK, MASK],
    ]
    np.testing.assert_array_equal(batch["tokens"], expected)
    expected = [[0, 1, 2, 3, 11, 4, 10, 5, 6], [0, 1, 2, 3, 11, 0, 0, 0, 0], [0, 1, 2, 3, 11, 9, 0, 4, 7]]
    np.testing.assert_array_equal(batch["positions"], expected)
    np.testing.assert_array_equal(batch["key_mask"][:, 5:], [[1, 1], [0, 0], [1, 0]])
    assert batch["key_mask"][:, :5].all()
    np.testing.assert_array_equal(batch["values"], [[0.5, 2.5], [0, 0], [4.5, 0]])
    np.testing.assert_array_equal(batch["target_bins"], [[0, 2], [-1, -1], [0, 0]])
    np.testing.assert_array_equal(batch["zero_offset"], MASKING.log_sampling_ratio)
    np.testing.assert_array_equal(batch["phenotypes"], CODES)
    np.testing.assert_array_equal(batch["phenotype_hidden"], MASKING.hidden)


def test_all_shown():
    batch = make_batch(CELLS, ask(CELLS, NO_GENES, SHOWN), LAYOUT, CODES)
    np.testing.assert_array_equal(batch["tokens"][:, 1:3], [[10, 13], [9, 8], [7, 11]])
    np.testing.assert_array_equal(batch["tokens"][:, 5:], [[15, 16, 17], [0, 0, 0], [17, 15, 0]])
    np.testing.assert_array_equal(batch["values"], [[0.5, 1.5, 2.5], [0, 0, 0], [3.5, 4.5, 0]])
    assert batch["target_bins"].shape == (3, 0)


@pytest.mark.parametrize("rows", [[1], []], ids=["nothing expressed", "no cells"])
def test_batches_without_genes(rows):
    cells, codes = CELLS.take(np.array(rows, dtype=int)), CODES[rows]
    batch = make_batch(cells, ask(cells, NO_GENES, np.ones(codes.shape, dtype=bool)), LAYOUT, codes)
    assert batch["tokens"].shape == (len(rows), 5)
    assert batch["values"].shape == (len(rows), 0)


def random_cells(n_cells=13, n_genes=59, n_bins=4, seed=0):
    rng = np.random.default_rng(seed)
    bins = rng.integers(0, n_bins, (n_cells, n_genes)) * (rng.random((n_cells, n_genes)) < 0.5)
    row, genes = np.nonzero(bins)
    indptr = np.concatenate([[0], np.cumsum((bins > 0).sum(1))])
    values = rng.gamma(2, 1, len(genes)).astype(np.float32)
    return Cells(indptr, genes.astype(np.int32), bins[row, genes].astype(np.int16), values), bins


def test_every_token_is_in_its_place():
    """Scattered back, what a batch shows and asks is the dense table of bins."""
    cells, bins = random_cells()
    layout = TokenLayout.build({"sex": ["f", "m"]}, [f"g{i}" for i in range(59)], 4)
    codes = np.zeros((13, 1), dtype=int)
    m = draw(cells, np.arange(13), np.ones(59, dtype=bool), 1, MaskingRates(gene_dropout=0), seed=0, epoch=0)
    batch = make_batch(cells, m, layout, codes)
    n_keys, s = batch["key_mask"].shape[1], layout.n_special
    seen = np.zeros_like(bins)
    row, column = np.nonzero(batch["key_mask"][:, s:])
    gene = batch["positions"][row, s + column] - layout.first_gene_position
    seen[row, gene] = batch["tokens"][row, s + column] - layout.first_bin_id
    row, column = np.nonzero(batch["target_bins"] >= 0)
    gene = batch["positions"][row, n_keys + column] - layout.first_gene_position
    assert (batch["tokens"][row, n_keys + column] == MASK).all()
    assert not seen[row, gene].any()
    np.testing.assert_array_equal(batch["target_bins"][row, column], bins[row, gene])
    seen[row, gene] = bins[row, gene]
    np.testing.assert_array_equal(seen, bins)


def test_the_inputs_tell_nothing_of_targets():
    """With the same set of targets, whether one is expressed changes no array but the answer and its correction."""
    cells, _ = random_cells()
    layout = TokenLayout.build({"sex": ["f", "m"]}, [f"g{i}" for i in range(59)], 4)
    codes = np.zeros((13, 1), dtype=int)
    m = draw(cells, np.arange(13), np.ones(59, dtype=bool), 1, MaskingRates(), seed=0, epoch=0)
    keep = ~m.target
    row = np.repeat(np.arange(13), cells.lengths)
    indptr = np.concatenate([[0], np.cumsum(np.bincount(row[keep], minlength=13))])
    silenced = Cells(indptr, cells.genes[keep], cells.bins[keep], cells.values[keep])
    zero_rows = np.concatenate([m.zero_rows, row[m.target]])
    order = np.argsort(zero_rows, kind="stable")
    other = replace(
        m,
        visible=m.visible[keep],
        target=m.target[keep],
        zero_rows=zero_rows[order],
        zero_genes=np.concatenate([m.zero_genes, cells.genes[m.target]])[order],
    )
    a, b = make_batch(cells, m, layout, codes), make_batch(silenced, other, layout, codes)
    for name in set(a) - {"target_bins", "zero_offset"}:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)
    assert (a["target_bins"] > 0).any()
    assert not (b["target_bins"] > 0).any()
