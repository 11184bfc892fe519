"""Genes that carry a phenotype in a context, with a null over groups.

Shapes: D groups, C categories, G genes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from polygene_scverse.abilities._gene_contributions import GeneContributions, sum_expression
from polygene_scverse.abilities._polyfunctionality import MIN_GROUPS, pooled_p
from polygene_scverse.data.feed._source import CellSource
from polygene_scverse.engine import Engine

MIN_SIDE: Final = 3
"""Groups of a category, and of the others, that a null needs where no group has cells of both."""


@dataclass(frozen=True)
class ContextMarkers:
    """How much each gene carries each category of a phenotype in one context.

    Parameters
    ----------
    contributions
        Scores of the context's cells.
    p_value
        Of the difference in expression between groups' cells of the category and others; NaN where there is no null.
        Shape (n_categories, n_genes), as the scores.
    n_groups
        Groups in the null, 0 where there is none; shape (n_categories,).
    """

    contributions: GeneContributions
    p_value: NDArray[np.float64]
    n_groups: NDArray[np.int64]


def group_means(
    engine: Engine, source: CellSource, groups: NDArray[np.int64], codes: NDArray[np.int64], n_categories: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Mean expression by group and category, shape (D, C, G), and numbers of cells, (D, C).

    Parameters
    ----------
    engine, source
        The network, whose genes are meant, and the cells.
    groups, codes
        Group and category of each cell.
    n_categories
        C.
    """
    present, of_cell = np.unique(groups, return_inverse=True)
    both = of_cell * n_categories + codes
    n = np.bincount(both, minlength=len(present) * n_categories)
    sums = sum_expression(engine, source, both, len(n))[1]
    shape = (len(present), n_categories)
    return (sums / np.maximum(n, 1)[:, None]).reshape(*shape, -1), n.reshape(shape)


def differences(
    means: NDArray[np.float64],
    n_cells: NDArray[np.int64],
    categories: NDArray[np.int64],
    min_cells: int,
    n_permutations: int,
    seed: int,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """P-values of the difference between a category and the others, and groups that they are of.

    Where five groups or more have cells of both, these are compared within groups, and the null exchanges them there.
    Else groups are compared with each other, and the null exchanges groups. Permuted statistics of all
    genes are pooled.

    Parameters
    ----------
    means, n_cells
        As of `group_means`.
    categories
        Those that are asked for; shape (n,).
    min_cells
        Cells that a side of a group needs.
    n_permutations, seed
        Permutations, and their seed.

    Returns
    -------
    Shapes (n, G) and (n,).
    """
    p_value, n_groups = np.full((len(categories), means.shape[2]), np.nan), np.zeros(len(categories), dtype=np.int64)
    total, of_all = n_cells.sum(1), (means * n_cells[..., None]).sum(1)  # (D,), (D, G)
    for i, category in enumerate(categories):
        n_own, own = n_cells[:, category], means[:, category]
        n_rest = total - n_own
        rest = (of_all - own * n_own[:, None]) / np.maximum(n_rest, 1)[:, None]
        has_own, has_rest = n_own >= min_cells, n_rest >= min_cells
        if (both := has_own & has_rest).sum() >= MIN_GROUPS:
            half = (own - rest)[both] / 2  # (D, G)
            moves = np.stack([half, -half], axis=1)[..., None]
            there = np.ones(moves.shape[:3], dtype=bool)
            p_value[i], n_groups[i] = pooled_p(moves, there, n_permutations, seed), both.sum()
            continue
        one, other = has_own & ~has_rest, has_rest & ~has_own
        if min(one.sum(), other.sum()) >= MIN_SIDE:
            p_value[i] = _between(own[one], rest[other], n_permutations, seed)
            n_groups[i] = one.sum() + other.sum()
    return p_value, n_groups


def _between(
    one: NDArray[np.float64], other: NDArray[np.float64], n_permutations: int, seed: int
) -> NDArray[np.float64]:
    """Two-sided p-values of Welch's t, beside those of groups exchanged between the sides; shape (G,)."""
    random, values, n = np.random.default_rng(seed), np.concatenate([one, other]), len(one)

    def statistic(order: NDArray[np.int64]) -> NDArray[np.float64]:
        a, b = values[order[:n]], values[order[n:]]
        error = a.var(0, ddof=1) / len(a) + b.var(0, ddof=1) / len(b)
        size: NDArray[np.float64] = np.abs(a.mean(0) - b.mean(0)) / np.sqrt(np.maximum(error, 1e-12))
        return size

    observed = statistic(np.arange(len(values)))
    null = np.sort(np.concatenate([statistic(random.permutation(len(values))) for _ in range(n_permutations)]))
    return (1 + len(null) - np.searchsorted(null, observed, side="left")) / (1 + len(null))
