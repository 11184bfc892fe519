"""Simple generators with which generated cells are compared; they are fitted to the cells of one class.

Shapes: N cells, G genes, n new cells.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri
from sklearn.covariance import ledoit_wolf

Counts = NDArray[np.floating]
Generator = Callable[[Counts, int, np.random.Generator], Counts]
"""Function of the counts of a class, shape (N, G), the number of new cells and a random generator; returns (n, G)."""


def real_cells(counts: Counts, n: int, random: np.random.Generator) -> Counts:
    """Real cells, without repeats until all are drawn, because copies would reveal each other; shape (n, G)."""
    rounds = [random.permutation(len(counts)) for _ in range(-(-n // len(counts)))]
    return counts[np.concatenate(rounds)[:n]]


def independent_genes(counts: Counts, n: int, random: np.random.Generator) -> Counts:
    """Draw each gene from a different cell, which keeps its distribution but not correlations; shape (n, G)."""
    return np.take_along_axis(counts, random.integers(0, len(counts), (n, counts.shape[1])), axis=0)


def gaussian_copula(counts: Counts, n: int, random: np.random.Generator) -> Counts:
    """Draw genes from their own distributions, with the rank correlations of the cells; shape (n, G).

    Ties are broken at random, and correlations are shrunk by the method of Ledoit and Wolf.

    References
    ----------
    Sun et al., "scDesign2", Genome Biology 2021, which fits the same copula, with parametric counts.
    """
    order = np.lexsort((random.random(counts.shape), counts), axis=0)
    ranks = np.argsort(order, axis=0)
    covariance = ledoit_wolf(ndtri((ranks + 0.5) / len(counts)), assume_centered=True)[0]
    scale = np.sqrt(np.diag(covariance))
    root = np.linalg.cholesky(covariance / np.outer(scale, scale) + 1e-6 * np.eye(len(scale)))
    at = (ndtr(random.standard_normal((n, len(scale))) @ root.T) * len(counts)).astype(np.int64)
    return np.take_along_axis(np.sort(counts, axis=0), np.minimum(at, len(counts) - 1), axis=0)


GENERATORS: Final[dict[str, Generator]] = {
    "real cells": real_cells,
    "Gaussian copula": gaussian_copula,
    "independent genes": independent_genes,
}
"""All simple generators, by their names in tables."""
