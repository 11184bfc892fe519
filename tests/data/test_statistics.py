"""What the training cells tell the network beside their tokens."""

import numpy as np

from polygene_scverse.data._statistics import category_counts, gene_scale
from polygene_scverse.data._tokens import Cells


def test_counts_skip_what_is_unknown():
    codes = np.array([[0, -1], [2, 1], [2, -1]])
    counts = category_counts(codes, [3, 2])
    assert counts.tolist() == [1, 0, 2, 0, 1]
    assert counts.dtype == np.float32


def test_gene_scale_by_hand():
    x = np.array([[0, 2.0, 0], [3.0, 1.0, 0], [0, 0, 0], [1.0, 0.5, 0]], dtype=np.float32)
    rows, genes = np.nonzero(x)
    table = Cells(
        np.concatenate([[0], np.cumsum((x > 0).sum(1))]), genes.astype(np.int32), np.ones(5, np.int16), x[rows, genes]
    )
    np.testing.assert_allclose(gene_scale(table, 3), 0.1 / np.maximum(x.std(0), 0.01), rtol=1e-5)
