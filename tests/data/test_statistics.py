"""What the training cells tell the network beside their tokens."""

import numpy as np

from polygene_scverse.data._statistics import category_counts, category_scale, gene_scale
from polygene_scverse.data._tokens import Cells


def test_counts_skip_what_is_unknown():
    codes = np.array([[0, -1], [2, 1], [2, -1]])
    counts = category_counts(codes, [3, 2])
    assert counts.tolist() == [1, 0, 2, 0, 1]
    assert counts.dtype == np.float32


def test_category_scale_makes_rare_and_frequent_move_as_far():
    counts = np.array([90.0, 9.0, 6.0, 5.0, 5.0])
    scale = category_scale(counts, [3, 2])
    assert scale.dtype == np.float32
    np.testing.assert_allclose(scale[:3] ** 2 * counts[:3], 35.0, rtol=1e-6)
    np.testing.assert_allclose(scale[3:], 1.0)


def test_category_scale_is_bounded():
    np.testing.assert_allclose(category_scale(np.array([10000.0, 1.0, 0.0]), [3]) ** 2, [1 / 3, 30, 30], rtol=1e-3)


def test_gene_scale_by_hand():
    x = np.array([[0, 2.0, 0], [3.0, 1.0, 0], [0, 0, 0], [1.0, 0.5, 0]], dtype=np.float32)
    rows, genes = np.nonzero(x)
    table = Cells(
        np.concatenate([[0], np.cumsum((x > 0).sum(1))]), genes.astype(np.int32), np.ones(5, np.int16), x[rows, genes]
    )
    np.testing.assert_allclose(gene_scale(table, 3), 0.1 / np.maximum(x.std(0), 0.01), rtol=1e-5)
