"""Counts of categories, and of pairs of categories, in the labels of the training cells."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

Pairs = dict[str, list[list[int]]]
"""For each two phenotypes, ``"i,j"``, the pairs of categories that occurred in the same cell."""


def category_counts(codes: NDArray[np.integer], n_categories: Sequence[int]) -> list[NDArray[np.float32]]:
    """Number of cells of each category; for each phenotype shape (n_categories,).

    Parameters
    ----------
    codes
        Category codes, -1 where unknown; shape (n_cells, n_phenotypes).
    n_categories
        Number of categories of each phenotype.
    """
    return [np.bincount(c[c >= 0], minlength=n).astype(np.float32) for c, n in zip(codes.T, n_categories, strict=True)]


def category_pairs(codes: NDArray[np.integer], known: Mapping[str, list[list[int]]] | None = None) -> Pairs:
    """Pairs of categories of each two phenotypes that occur in the same cell.

    Parameters
    ----------
    codes
        Category codes of the training cells, -1 where unknown; shape (n_cells, n_phenotypes).
    known
        Pairs from an earlier training, which are kept.
    """
    pairs: Pairs = {}
    for i, j in itertools.combinations(range(codes.shape[1]), 2):
        both = codes[:, [i, j]]
        earlier = np.array((known or {}).get(f"{i},{j}", []), dtype=np.int64).reshape(-1, 2)
        found = np.concatenate([both[(both >= 0).all(axis=1)], earlier])
        pairs[f"{i},{j}"] = np.unique(found, axis=0).tolist()
    return pairs
