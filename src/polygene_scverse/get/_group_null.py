"""Permutation tests of differences over groups (donors, samples).

Shapes: G groups, n genes, P permutations.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from math import comb
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

RAREST: Final = 0.05
"""Maximum fraction of permutations equivalent to the observed labels; above it there is no test."""
CHUNK: Final = 2**22
"""Number of statistics computed at a time."""
SLACK: Final = 1.0 - 1e-9
"""Relative tolerance for rounding errors."""


class GroupTest(NamedTuple):
    """Result of a permutation test for each gene; shape (n,) each.

    Parameters
    ----------
    p_value
        Fraction of the permutations in which the statistic of the gene is at least as extreme.
    fdr
        Estimated false discovery rate: the mean number of genes that are at least as extreme in the permutations,
        divided by the observed number, made monotone. It is at least the fraction of permutations in which any gene
        would have as low a rate. With correlated genes, permutations have either no extreme genes or many, and without
        this bound there would be too many false discoveries if no gene differs.
    """

    p_value: NDArray[np.float64]
    fdr: NDArray[np.float64]


def share_alike(n_both: int = 0, n_first: int = 0, n_second: int = 0) -> float:
    """Fraction of the permutations that are equivalent to the observed labels, up to the sign.

    Parameters
    ----------
    n_both
        Number of groups that have cells of both kinds, if labels are permuted within groups.
    n_first, n_second
        Numbers of groups that have cells of one kind only, if labels are permuted between groups.
    """
    if n_both:
        return 2.0 ** (1 - n_both)
    return (2 if n_first == n_second else 1) / comb(n_first + n_second, n_first) if n_first and n_second else 1.0


def paired(differences: NDArray[np.floating], n_permutations: int, seed: int) -> GroupTest:
    """Permute the two labels within groups, which flips the sign of the difference of a group.

    Parameters
    ----------
    differences
        Difference of each group; shape (G, n).
    n_permutations
        Maximum number of permutations; if there are more, they are drawn at random, after the observed labels.
    seed
        Seed of the draws.
    """
    n = len(differences)
    if 2**n <= n_permutations:
        signs = 1.0 - 2.0 * (np.arange(2**n)[:, None] >> np.arange(n) & 1)
    else:
        signs = np.random.default_rng(seed).choice([-1.0, 1.0], (n_permutations, n))
        signs[0] = 1.0
    squares = (differences**2).sum(0)

    def statistics(part: NDArray[np.floating]) -> NDArray[np.floating]:
        mean = part @ differences / n
        return moderated(mean, np.sqrt((squares - n * mean**2).clip(min=0.0) / (n - 1) / n))

    return _compare(statistics, signs, differences.shape[1])


def unpaired(values: NDArray[np.floating], first: NDArray[np.bool_], n_permutations: int, seed: int) -> GroupTest:
    """Permute labels between groups.

    Parameters
    ----------
    values
        Mean of each group; shape (G, n).
    first
        Which groups are of the first kind; shape (G,).
    n_permutations, seed
        As for `paired`.
    """
    n, n_first = len(values), int(first.sum())
    if comb(n, n_first) <= n_permutations:
        labels = np.zeros((comb(n, n_first), n))
        for row, chosen in zip(labels, combinations(range(n), n_first), strict=True):
            row[list(chosen)] = 1.0
        labels = labels[np.argsort((labels != first).any(axis=1), kind="stable")]  # the observed labels come first
    else:
        random = np.random.default_rng(seed)
        labels = random.permuted(np.tile(first.astype(float), (n_permutations, 1)), axis=1)
        labels[0] = first
    values = values - values.mean(0)
    total, squares = values.sum(0), (values**2).sum(0)

    def statistics(part: NDArray[np.floating]) -> NDArray[np.floating]:
        of_first = part @ values
        mean, other = of_first / n_first, (total - of_first) / (n - n_first)
        within = (squares - n_first * mean**2 - (n - n_first) * other**2).clip(min=0.0) / (n - 2)
        return moderated(mean - other, np.sqrt(within * (1 / n_first + 1 / (n - n_first))))

    return _compare(statistics, labels, values.shape[1])


def moderated(mean: NDArray[np.floating], error: NDArray[np.floating]) -> NDArray[np.float64]:
    """Absolute t statistic with the median error over genes added to the error of each gene; shape (P, n).

    References
    ----------
    Tusher, Tibshirani and Chu, PNAS 2001, who add a constant so that genes with tiny variance do not rank first.
    """
    usual = np.median(error, axis=-1, keepdims=True)
    return np.abs(mean) / np.maximum(error + usual, 1e-12)


def _compare(
    statistics: Callable[[NDArray[np.floating]], NDArray[np.floating]], labels: NDArray[np.floating], n_genes: int
) -> GroupTest:
    """P-values of single genes, and false discovery rates from numbers of genes that are at least as extreme."""
    n = len(labels)
    parts = np.array_split(labels, max(1, -(-n * n_genes // CHUNK)))
    observed = statistics(labels[:1])[0]
    values = np.sort(np.concatenate([statistics(part).ravel() for part in parts]))

    def rates(ordered: NDArray[np.floating]) -> NDArray[np.float64]:
        """Mean number of genes as extreme in permutations, divided by that in `ordered`, whose rows are ascending."""
        expected = (len(values) - np.searchsorted(values, ordered * SLACK, side="left")) / n
        return np.asarray(expected / np.arange(n_genes, 0, -1), dtype=np.float64)

    reached, as_good = np.zeros(n_genes), 0
    order = np.argsort(observed, kind="stable")
    fdr = np.empty(n_genes)
    fdr[order] = np.minimum.accumulate(rates(observed[order])).clip(max=1.0)  # from the least to the most extreme gene
    best = fdr.min()
    for part in parts:
        found = statistics(part)
        reached += (found >= observed * SLACK).sum(axis=0)
        as_good += int((rates(np.sort(found, axis=1)).min(axis=1).clip(max=1.0) <= best / SLACK).sum())
    return GroupTest(reached / n, np.maximum(fdr, as_good / n))
