"""Genes that are evidence for a phenotype in a context, with a null distribution over groups.

Shapes: D groups, C categories, G genes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from polygene_scverse.abilities._gene_contributions import (
    GeneContributions,
    contributions_of,
    draw,
    sum_expression,
)
from polygene_scverse.abilities._polyfunctionality import MIN_GROUPS, permutation_p
from polygene_scverse.data.feed._source import CellSource
from polygene_scverse.engine import Engine
from polygene_scverse.fit import FittedState
from polygene_scverse.metrics._pooled_p import pooled_p

MIN_SIDE: Final = 3
"""Minimum number of groups with and without the category for a test between groups."""


@dataclass(frozen=True)
class ContextMarkers:
    """Contribution of each gene to each category of a phenotype in one context.

    Parameters
    ----------
    contributions
        Contributions in the cells of the context.
    p_value
        P-value of the difference in expression between cells of the category and other cells, over groups; NaN where
        nothing could be tested. Shape (n_categories, n_genes), as the scores.
    n_groups
        Number of groups in the test, 0 where nothing could be tested; shape (n_categories,).
    """

    contributions: GeneContributions
    p_value: NDArray[np.float64]
    n_groups: NDArray[np.int64]


def biomarkers(
    engine: Engine,
    state: FittedState,
    source: CellSource,
    slot: int,
    contexts: NDArray[np.int64],
    codes: NDArray[np.int64],
    groups: NDArray[np.int64],
    *,
    n_cells: int,
    min_cells: int,
    n_permutations: int,
    seed: int,
) -> dict[int, ContextMarkers]:
    """Score genes for each category in each context; all cells are read once, and the cells for occlusion again.

    Parameters
    ----------
    engine, state, source, slot
        As for `gene_contributions`.
    contexts, codes
        Context and category of each cell, with at least two categories in each context. Shape (n_cells,).
    groups
        Group of each cell, -1 for none; cells without a group are left out of the null. Shape (n_cells,).
    n_cells, seed
        As for `gene_contributions`, applied in each context.
    min_cells, n_permutations
        As for `differences`.
    """
    n = engine.module.n_categories[slot]
    at = {gene: i for i, gene in enumerate(engine.module.layout.genes)}
    combination = (contexts * n + codes) * (groups.max() + 2) + groups + 1  # -1 counts as a group here
    _, first, of_cell, n_of = np.unique(combination, return_index=True, return_inverse=True, return_counts=True)
    sums = sum_expression(engine, source, of_cell, len(n_of))  # (2, n_combinations, G)
    found = {}
    for context in np.unique(contexts):
        own = contexts[first] == context
        is_of = codes[first[own]] == np.arange(n)[:, None]  # (C, combinations of the context)
        by_category, counts = is_of.astype(float) @ sums[:, own], is_of @ n_of[own]  # (2, C, G), (C,)
        cells = np.flatnonzero(contexts == context)
        drawn = cells[draw(codes[cells], n_cells, seed)]
        scores = contributions_of(engine, state, slot, by_category, counts, source.read(drawn), codes[drawn])
        own &= groups[first] >= 0
        means, n_means = group_means(sums[1, own], n_of[own], groups[first[own]], codes[first[own]], n)
        p_value, n_groups = differences(
            means[:, :, [at[gene] for gene in scores.genes]], n_means, np.flatnonzero(counts), min_cells,
            n_permutations, seed,
        )  # fmt: skip
        found[int(context)] = ContextMarkers(scores, p_value, n_groups)
    return found


def group_means(
    sums: NDArray[np.float64],
    n_cells: NDArray[np.int64],
    groups: NDArray[np.int64],
    codes: NDArray[np.int64],
    n_categories: int,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Mean expression by group and category, shape (D, C, G), and number of cells, shape (D, C).

    Parameters
    ----------
    sums, n_cells
        Summed expression and number of cells for each combination of group and category; shapes (n, G) and (n,).
    groups, codes
        Group and category of each combination; shape (n,).
    n_categories
        Number of categories, C.
    """
    present, row = np.unique(groups, return_inverse=True)
    means, n = np.zeros((len(present), n_categories, sums.shape[1])), np.zeros((len(present), n_categories), np.int64)
    means[row, codes], n[row, codes] = sums / n_cells[:, None], n_cells
    return means, n


def differences(
    means: NDArray[np.float64],
    n_cells: NDArray[np.int64],
    categories: NDArray[np.int64],
    min_cells: int,
    n_permutations: int,
    seed: int,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """P-values of the difference in expression between a category and the others, and the number of groups used.

    If at least five groups have cells on both sides, the two sides are compared within groups and the null swaps them
    within groups. Otherwise groups with the category are compared with groups without it, and the null permutes the
    groups. Permuted statistics of all genes are pooled.

    Parameters
    ----------
    means, n_cells
        As returned by `group_means`.
    categories
        Codes of the categories to test; shape (n,).
    min_cells
        Minimum number of cells on a side of a group.
    n_permutations, seed
        Number of permutations, and their seed.

    Returns
    -------
    P-values and numbers of groups; shapes (n, G) and (n,).
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
            p_value[i], n_groups[i] = permutation_p(moves, there, n_permutations, seed), both.sum()
            continue
        one, other = has_own & ~has_rest, has_rest & ~has_own
        if min(one.sum(), other.sum()) >= MIN_SIDE:
            p_value[i] = _between(own[one], rest[other], n_permutations, seed)
            n_groups[i] = one.sum() + other.sum()
    return p_value, n_groups


def _between(
    one: NDArray[np.float64], other: NDArray[np.float64], n_permutations: int, seed: int
) -> NDArray[np.float64]:
    """Two-sided p-values of Welch's t against the null in which groups are permuted between the sides; shape (G,)."""
    random, values, n = np.random.default_rng(seed), np.concatenate([one, other]), len(one)

    def statistic(order: NDArray[np.int64]) -> NDArray[np.float64]:
        a, b = values[order[:n]], values[order[n:]]
        error = a.var(0, ddof=1) / len(a) + b.var(0, ddof=1) / len(b)
        size: NDArray[np.float64] = np.abs(a.mean(0) - b.mean(0)) / np.sqrt(np.maximum(error, 1e-12))
        return size

    observed = statistic(np.arange(len(values)))
    return pooled_p(observed, np.stack([statistic(random.permutation(len(values))) for _ in range(n_permutations)]))
