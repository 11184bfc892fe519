"""What the training cells tell the network beside their tokens."""

import numpy as np

from polygene_scverse.fit._category_counts import category_counts


def test_counts_skip_what_is_unknown():
    codes = np.array([[0, -1], [2, 1], [2, -1]])
    counts = category_counts(codes, [3, 2])
    assert counts.tolist() == [1, 0, 2, 0, 1]
    assert counts.dtype == np.float32
