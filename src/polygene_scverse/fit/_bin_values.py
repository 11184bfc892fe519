"""Mean expression of each gene within each bin, overall and by category, because bins are wide.

Shapes: N cells, G genes, V bins, C categories of all phenotypes, K combinations of categories.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from polygene_scverse.fit._class_frequencies import one_hot

VALUE_PRIOR: Final = 5.0
"""Entries at the bin's mean over all genes that are added to those of a gene; likewise for a category."""
N_SWEEPS: Final = 2
"""Number of passes over the phenotypes in which effects of categories are adjusted to each other."""


@dataclass(frozen=True)
class BinValues:
    """Mean expression within bins; 0 for bin 0.

    Parameters
    ----------
    mean
        Mean of each gene in each bin; shape (G, V).
    effects
        Difference from the mean in cells of a category; shape (C, G, V).
    """

    mean: NDArray[np.float32]
    effects: NDArray[np.float32]

    def of(self, codes: NDArray[np.integer], n_categories: Sequence[int]) -> NDArray[np.float32]:
        """Mean expression in each bin given some phenotypes; shape (n, G, V).

        Parameters
        ----------
        codes
            Category of each phenotype, -1 where it is not given; shape (n, P).
        n_categories
            Number of categories of each phenotype.
        """
        return (self.mean + np.tensordot(one_hot(codes, n_categories), self.effects, 1)).astype(np.float32)


def fit_bin_values(
    rows: NDArray[np.integer],
    genes: NDArray[np.integer],
    bins: NDArray[np.integer],
    values: NDArray[np.floating],
    codes: NDArray[np.integer],
    n_categories: Sequence[int],
    n_genes: int,
    n_bins: int,
) -> BinValues:
    """Fit means within bins, each shrunk towards its expectation.

    Parameters
    ----------
    rows, genes, bins, values
        Cell, gene, bin and expression of each expressed entry; shape (n_entries,).
    codes
        Categories of each cell, -1 where unknown; shape (N, P).
    n_categories
        Number of categories of each phenotype.
    n_genes, n_bins
        Numbers of genes and bins.
    """
    size = n_genes * n_bins
    flat = genes.astype(np.int64) * n_bins + bins
    usual = np.bincount(bins, values, n_bins) / np.maximum(np.bincount(bins, minlength=n_bins), 1)  # (V,)
    sums = np.bincount(flat, values, size).reshape(n_genes, n_bins)
    counts = np.bincount(flat, minlength=size).reshape(n_genes, n_bins)
    mean = (sums + VALUE_PRIOR * usual) / (counts + VALUE_PRIOR)
    mean[:, 0] = 0.0
    starts = np.cumsum([0, *n_categories])
    effects = np.zeros((starts[-1], size))
    entry_codes = [c[rows] for c in codes.T]
    rest = values - mean.reshape(-1)[flat]
    for _ in range(N_SWEEPS):
        for i, n in enumerate(n_categories):
            known = entry_codes[i] >= 0
            at = entry_codes[i][known].astype(np.int64) * size + flat[known]
            effect = effects[starts[i] : starts[i + 1]].reshape(-1)  # a view
            rest[known] += effect[at]
            n_entries = np.bincount(at, minlength=n * size)
            effect[:] = np.bincount(at, rest[known], n * size) / (n_entries + VALUE_PRIOR)
            rest[known] -= effect[at]
    return BinValues(mean.astype(np.float32), effects.reshape(-1, n_genes, n_bins).astype(np.float32))
