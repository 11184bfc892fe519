"""What the training cells tell the network beside their tokens."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def category_counts(codes: NDArray[np.integer], n_categories: Sequence[int]) -> NDArray[np.float32]:
    """Cells of each category of each phenotype, one phenotype after the other; shape (sum of n_categories,).

    Parameters
    ----------
    codes
        Category codes, -1 where unknown; shape (n_cells, n_phenotypes).
    n_categories
        Number of categories of each phenotype.
    """
    counts = [np.bincount(c[c >= 0], minlength=n) for c, n in zip(codes.T, n_categories, strict=True)]
    return np.concatenate(counts).astype(np.float32)
