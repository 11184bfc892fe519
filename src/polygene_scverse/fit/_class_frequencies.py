"""Frequencies of expression bins of each gene, overall, by category and by pairs of categories.

The model is log-linear: the log probability of a gene's bins is that in all cells, plus an effect of each category,
plus an interaction of each two phenotypes, all shrunk towards 0. Effects are fitted jointly, so that the effect of a
condition is not attributed to a category that was mostly seen with it. All functions take and return arrays.

Shapes: N cells, G genes, V bins, P phenotypes, C categories of all phenotypes, K combinations of categories.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

GENE_PRIOR: Final = 10.0
"""Pseudocount of cells, with the average share of expressing cells, that is added to each gene."""
CLASS_PRIOR: Final = 3.0
"""Pseudocount per bin that is added to observed and expected counts of a category."""
PAIR_PRIOR: Final = 16.0
"""The same for pairs of categories."""
BORROWED_PRIOR: Final = 1.0
"""The same for pairs from which an unseen pair is predicted; it is lower because several pairs are averaged."""
EXPRESSED_PRIOR: Final = 20.0
"""Pseudocount of expressing cells, with the average frequencies of expressed bins, that is added to each gene."""
BIN_WIDTH: Final = 0.7
"""Standard deviation, in bins, of the smoothing of effects over neighbouring expressed bins."""
LEAST_SHARE: Final = 0.1
"""Lower limit of a transferred probability, relative to the lowest one among similar categories."""
LEVEL_SHARE: Final = 0.2
"""Weight of the levels of similar categories, as opposed to their changes, in the prediction of an unseen pair."""
N_SWEEPS: Final = 8
"""Number of passes over the phenotypes in which effects are adjusted to each other."""
SHARPNESS: Final = 20.0
"""Decay of the weight of another category with decreasing correlation of mean expression."""
MOST_PAIRS: Final = 256
"""Maximum number of pairs of categories of two phenotypes for which an interaction is fitted."""
MOST_NUMBERS: Final = 2**24
"""Maximum number of values in memory while effects are fitted; genes are processed in blocks."""


@dataclass(frozen=True)
class Priors:
    """Strengths of the shrinkage.

    Parameters
    ----------
    category, pair, expressed
        See `CLASS_PRIOR`, `PAIR_PRIOR` and `EXPRESSED_PRIOR`.
    """

    category: float
    pair: float
    expressed: float


@dataclass(frozen=True)
class ClassFrequencies:
    """Log-linear frequencies of expression bins.

    Parameters
    ----------
    bias
        Log frequencies in all cells; shape (G, V).
    effects
        Effect of each category; shape (C, G, V).
    pairs
        Categories of each interaction, numbered over all phenotypes; shape (n_pairs, 2).
    interactions
        Effect of each pair in addition to those of its categories; shape (n_pairs, G, V).
    """

    bias: NDArray[np.float32]
    effects: NDArray[np.float32]
    pairs: NDArray[np.int64]
    interactions: NDArray[np.float32]


def one_hot(codes: NDArray[np.integer], n_categories: Sequence[int]) -> NDArray[np.float64]:
    """Indicators of categories, all 0 where a code is -1; shape (n, C)."""
    parts = [(codes[:, [i]] == np.arange(n)).astype(float) for i, n in enumerate(n_categories)]
    return np.concatenate([np.zeros((len(codes), 0)), *parts], axis=1)


def count_bins(
    rows: NDArray[np.integer],
    indptr: NDArray[np.integer],
    bins: NDArray[np.integer],
    groups: NDArray[np.integer],
    n_bins: int,
    measured: NDArray[np.bool_],
) -> NDArray[np.float64]:
    """Number of cells of each group in each bin of each gene; cells in which a gene is unmeasured are left out.

    Parameters
    ----------
    rows, indptr, bins
        Cells that express a gene, and their bins, ordered by gene as in a CSC matrix.
    groups
        Group of each cell, from 0; shape (N,).
    n_bins
        Number of bins.
    measured
        Whether each gene is measured; shape (n,) or (N, n).

    Returns
    -------
    Shape (n_groups, n, V).
    """
    n, n_groups = len(indptr) - 1, int(groups.max(initial=-1)) + 1
    genes = np.repeat(np.arange(n), np.diff(indptr))
    flat = (groups[rows].astype(np.int64) * n + genes) * n_bins + bins
    counts = np.bincount(flat, minlength=n_groups * n * n_bins).astype(float).reshape(n_groups, n, n_bins)
    cells = one_hot(groups[:, None], [n_groups])  # (N, n_groups)
    totals = cells.sum(0)[:, None] * measured if measured.ndim == 1 else cells.T @ measured  # (n_groups, n)
    counts[..., 0] = np.maximum(totals - counts.sum(-1), 0.0)
    return counts


def fit_class_frequencies(
    count: Callable[[slice], NDArray[np.floating]],
    n_genes: int,
    codes: NDArray[np.integer],
    n_categories: Sequence[int],
    priors: Priors | None = None,
) -> ClassFrequencies:
    """Fit the log-linear model.

    Parameters
    ----------
    count
        Function that returns the number of cells of each combination of categories in each bin of a slice of genes;
        shape (K, n, V). Genes are processed in blocks if there are many combinations.
    n_genes
        Number of genes.
    codes
        Categories of each combination, -1 where unknown; shape (K, P).
    n_categories
        Number of categories of each phenotype.
    priors
        Strengths of the shrinkage; by default the constants of this module.
    """
    priors = Priors(CLASS_PRIOR, PAIR_PRIOR, EXPRESSED_PRIOR) if priors is None else priors
    design = one_hot(codes, n_categories)  # (K, C)
    n_bins = count(slice(0, 0)).shape[-1]
    blocks = _blocks(n_genes, max(1, MOST_NUMBERS // max(1, len(codes) * n_bins)))
    if len(blocks) == 1:  # cache the counts, because they are used several times
        every = count(blocks[0])
        count = lambda _: every  # noqa: E731
    totals, cells = [], np.zeros(len(codes))
    for block in blocks:
        counts = count(block)
        totals.append(counts.sum(0))
        cells = np.maximum(cells, counts.sum(-1).max(-1, initial=0.0))  # number of cells of each combination
    bias = _log_frequencies(np.concatenate(totals), priors.expressed)
    parts = [_fit_effects(count(b), design, bias[b], n_categories, priors.category) for b in blocks]
    effects = np.concatenate(parts, axis=1)  # (C, G, V)
    pairs, interactions = _fit_interactions(count, blocks, cells, design, bias, effects, n_categories, priors.pair)
    found = (bias.astype(np.float32), effects.astype(np.float32), pairs, interactions.astype(np.float32))
    return ClassFrequencies(*found)


def _log_frequencies(counts: NDArray[np.floating], prior: float) -> NDArray[np.float64]:
    """Log of smoothed frequencies of bins; shape (G, V)."""
    all_genes = counts.sum(0) + 1.0  # (V,)
    expressed = counts[:, 1:] + prior * all_genes[1:] / all_genes[1:].sum()
    expressed = expressed / expressed.sum(-1, keepdims=True)
    n, usual = counts.sum(-1), all_genes[1:].sum() / all_genes.sum()
    share = (counts[:, 1:].sum(-1) + GENE_PRIOR * usual) / (n + GENE_PRIOR)  # share of cells that express the gene
    found: NDArray[np.float64] = np.log(np.concatenate([1.0 - share[:, None], share[:, None] * expressed], axis=1))
    return found


def _log_ratio(observed: NDArray[np.floating], expected: NDArray[np.floating], prior: float) -> NDArray[np.float64]:
    """Log ratio of observed to expected counts, smoothed over neighbouring bins and shrunk towards 0; same shape."""
    smooth = _smoothing(observed.shape[-1])
    return np.log((observed @ smooth + prior) / (expected @ smooth + prior))


def _smoothing(n_bins: int) -> NDArray[np.float64]:
    """Smoothing weights between expressed bins; bin 0 is not smoothed. Shape (V, V)."""
    bins = np.arange(n_bins)
    weights = np.exp(-0.5 * ((bins[:, None] - bins) / BIN_WIDTH) ** 2)
    weights[0, 1:] = weights[1:, 0] = 0.0
    return weights


def _fit_effects(
    counts: NDArray[np.floating],
    design: NDArray[np.floating],
    bias: NDArray[np.floating],
    n_categories: Sequence[int],
    prior: float,
) -> NDArray[np.float64]:
    """Fit effects such that expected counts match those observed in each category, up to the prior; shape (C, G, V)."""
    effects = np.zeros((design.shape[1], *bias.shape))
    cells = counts.sum(-1, keepdims=True)  # (K, G, 1)
    observed = np.tensordot(design.T, counts, 1)  # (C, G, V)
    starts = np.cumsum([0, *n_categories])
    for _ in range(N_SWEEPS):
        for start, end in pairwise(starts):
            expected = cells * np.exp(_log_softmax(bias + np.tensordot(design, effects, 1)))
            counts_expected = np.tensordot(design[:, start:end].T, expected, 1)  # (categories, G, V)
            before = counts_expected * np.exp(-effects[start:end])  # expected counts without the effect
            effects[start:end] = _log_ratio(observed[start:end], before, prior)
            effects[start:end] -= _log_sum_exp(bias + effects[start:end])
    return effects


def _fit_interactions(
    count: Callable[[slice], NDArray[np.floating]],
    blocks: Sequence[slice],
    cells: NDArray[np.floating],
    design: NDArray[np.floating],
    bias: NDArray[np.floating],
    effects: NDArray[np.floating],
    n_categories: Sequence[int],
    prior: float,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Pairs of categories of different phenotypes, and their effects shrunk towards those of similar categories."""
    starts = np.cumsum([0, *n_categories])
    pairs, found = [np.zeros((0, 2), dtype=np.int64)], [np.zeros((0, *bias.shape))]
    for p, q in combinations(range(len(n_categories)), 2):
        if n_categories[p] < n_categories[q]:
            p, q = q, p
        p_slice, q_slice = (slice(int(starts[i]), int(starts[i + 1])) for i in (p, q))
        if n_categories[p] * n_categories[q] > MOST_PAIRS:
            continue
        weights = similarities(bias, effects[p_slice])  # (n_p, n_p)
        n = (design[:, p_slice].T * cells) @ design[:, q_slice]  # (n_p, n_q): cells of each pair
        parts = [
            _two_phenotypes(count(b), design, bias[b], effects[:, b], n, weights, p_slice, q_slice, prior)
            for b in blocks
        ]  # (n_p, n_q, n, V) each
        found.append(np.concatenate(parts, axis=2).reshape(-1, *bias.shape))
        rows, columns = np.meshgrid(*(np.arange(s.start, s.stop) for s in (p_slice, q_slice)), indexing="ij")
        pairs.append(np.stack([rows.ravel(), columns.ravel()], axis=1))
    return np.concatenate(pairs), np.concatenate(found)


def _two_phenotypes(
    counts: NDArray[np.floating],
    design: NDArray[np.floating],
    bias: NDArray[np.floating],
    effects: NDArray[np.floating],
    n: NDArray[np.floating],
    weights: NDArray[np.floating],
    p_slice: slice,
    q_slice: slice,
    prior: float,
) -> NDArray[np.float64]:
    """Interactions of two phenotypes; shape (categories of p, categories of q, G, V)."""
    n_p, n_q = p_slice.stop - p_slice.start, q_slice.stop - q_slice.start
    expected = counts.sum(-1, keepdims=True) * np.exp(_log_softmax(bias + np.tensordot(design, effects, 1)))
    both = (design[:, p_slice, None] * design[:, None, q_slice]).reshape(len(design), n_p * n_q)
    observed, expected = (np.tensordot(both.T, a, 1).reshape(n_p, n_q, *bias.shape) for a in (counts, expected))
    additive = _log_softmax(bias + effects[p_slice, None] + effects[None, q_slice])  # (n_p, n_q, G, V)
    held, free = (_log_ratio(observed, expected, p) for p in (prior, BORROWED_PRIOR))
    found = np.zeros_like(held)
    for c, s in np.ndindex(n_p, n_q):
        own = n[c] / max(n[c].sum(), 1e-12)  # distribution of q within this category of p
        usable = weights[c] * (n[:, s] > 0) * (n[:, own > 0] > 0).all(1)
        if not usable.sum() > 0 or not own.any():
            continue
        usable /= usable.sum()
        if n[c, s] > 0:
            mean = np.tensordot(usable, held[:, s] - np.tensordot(held, own, ([1], [0])), 1)
            without = expected[c, s] * np.exp(mean)
            found[c, s] = mean + _log_ratio(observed[c, s], without, prior)
        else:
            found[c, s] = _unseen_pair(additive, free, usable, own, c, s)
    return found


def _unseen_pair(
    additive: NDArray[np.floating],
    interactions: NDArray[np.floating],
    weights: NDArray[np.floating],
    own: NDArray[np.floating],
    c: int,
    s: int,
) -> NDArray[np.float64]:
    """Predict the interaction of a pair without cells from the changes in similar categories; shape (G, V).

    Changes are transferred as a difference of log-odds, which suits rare genes, and as a difference of probabilities,
    which suits frequent genes. The result is the mean of both, because neither is better throughout. A fifth is the
    level in similar categories (`LEVEL_SHARE`), because changes of small categories are noisy and strong effects
    saturate.
    """
    by_odds = np.tensordot(weights, interactions[:, s] - np.tensordot(interactions, own, ([1], [0])), 1)
    seen = np.exp(_log_softmax(additive + interactions))  # (n_p, n_q, G, V)
    change = np.tensordot(weights, seen[:, s] - np.tensordot(seen, own, ([1], [0])), 1)
    moved = np.maximum(np.tensordot(own, seen[c], 1) + change, LEAST_SHARE * seen[weights > 0, s].min(0))
    by_probabilities = np.log(moved / moved.sum(-1, keepdims=True)) - additive[c, s]
    level = np.tensordot(weights, seen[:, s], 1)
    by_level = np.log(level / level.sum(-1, keepdims=True)) - additive[c, s]
    found: NDArray[np.float64] = (1 - LEVEL_SHARE) * (by_odds + by_probabilities) / 2 + LEVEL_SHARE * by_level
    return found


def similarities(bias: NDArray[np.floating], effects: NDArray[np.floating]) -> NDArray[np.float64]:
    """Weight of each other category, from the correlation of mean bins over genes; rows sum to 1, shape (n, n)."""
    probabilities = np.exp(_log_softmax(bias + effects))  # (n, G, V)
    means = probabilities @ np.arange(bias.shape[1])  # (n, G)
    with np.errstate(invalid="ignore", divide="ignore"):
        correlation = np.nan_to_num(np.atleast_2d(np.corrcoef(means)))
    np.fill_diagonal(correlation, -1.0)
    weights = np.exp(SHARPNESS * (correlation - correlation.max(1, keepdims=True, initial=-1.0)))
    np.fill_diagonal(weights, 0.0)
    found: NDArray[np.float64] = weights / np.maximum(weights.sum(1, keepdims=True), 1e-12)
    return found


def _log_sum_exp(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    highest = logits.max(-1, keepdims=True)
    found: NDArray[np.float64] = highest + np.log(np.exp(logits - highest).sum(-1, keepdims=True))
    return found


def _log_softmax(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    return logits - _log_sum_exp(logits)


def _blocks(n: int, size: int) -> list[slice]:
    return [slice(i, min(i + size, n)) for i in range(0, n, size)]
