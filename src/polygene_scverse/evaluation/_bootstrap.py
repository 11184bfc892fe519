"""Scores of several methods on the same cells, with paired bootstrap intervals.

All scores are functions of sums over cells: numbers of correct cells; true, predicted and correct cells of each
category; confidence minus accuracy by bin of confidence; and the log-likelihood. A bootstrap sample is a vector of
weights of the cells, so that the scores of many samples are computed with one matrix product.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from polygene_scverse.metrics._known import confidence_bins

Floats = NDArray[np.float64]

SCORES = ("accuracy", "balanced_accuracy", "macro_f1", "macro_f1_10", "ece", "nll")
MIN_GROUPS = 5
"""Minimum number of test groups for resampling groups; with fewer groups, cells are resampled within groups."""
N_BINS, BLOCK = 15, 50


def sums_by_cell(codes: NDArray[np.integer], probabilities: Floats, predicted: NDArray[np.integer]) -> sp.csr_matrix:
    """Contribution of each cell to the sums; shape (n_cells, 3 + 3 n_categories + 15).

    Parameters
    ----------
    codes
        True category of each cell; shape (n_cells,).
    probabilities
        Probability of each category; shape (n_cells, n_categories).
    predicted
        Category chosen by the method; shape (n_cells,).
    """
    n, k = probabilities.shape
    cells = np.arange(n)
    confidence, right, bins = confidence_bins(codes, probabilities, N_BINS)
    true_probability = probabilities[cells, codes].clip(min=np.finfo(np.float64).eps)
    hit = predicted == codes
    columns = [
        np.stack([np.ones(n), hit, -np.log(true_probability)], axis=1),
        _one_hot(codes, k),
        _one_hot(predicted, k),
        _one_hot(codes, k).multiply(hit[:, None]),
        sp.csr_matrix((confidence - right, (cells, bins)), shape=(n, N_BINS)),
    ]
    return sp.hstack(columns, format="csr")


def scores_from_sums(sums: Floats, large: NDArray[np.bool_]) -> Floats:
    """Scores from sums over cells; shape (..., 6), in the order of `SCORES`.

    Parameters
    ----------
    sums
        Weighted sums of the rows of `sums_by_cell`; shape (..., 3 + 3 n_categories + 15).
    large
        Categories included in the macro-F1 over categories with at least ten cells; shape (n_categories,).
    """
    k = len(large)
    n, right, loss = np.moveaxis(sums[..., :3], -1, 0)
    true, predicted, hit = (sums[..., 3 + i * k : 3 + (i + 1) * k] for i in range(3))
    gaps = sums[..., 3 + 3 * k :]
    with np.errstate(divide="ignore", invalid="ignore"):
        recall, f1 = hit / true, 2 * hit / (true + predicted)
        columns = [
            right / n,
            _mean(recall, true > 0),
            _mean(f1, true + predicted > 0),
            _mean(f1, (true > 0) & large),
            np.abs(gaps).sum(axis=-1) / n,
            loss / n,
        ]
    return np.stack(columns, axis=-1)


def point_scores(sums: sp.csr_matrix, large: NDArray[np.bool_]) -> Floats:
    """Scores of all cells with equal weights; shape (6,). Arguments as for `scores_from_sums`."""
    return scores_from_sums(np.asarray(sums.sum(axis=0)).ravel(), large)


def bootstrap(
    sums: Mapping[str, sp.csr_matrix], groups: NDArray[np.integer], large: NDArray[np.bool_], n: int, seed: int
) -> dict[str, Floats]:
    """Scores of each method in bootstrap samples, which are the same for all methods.

    Groups are resampled if there are at least five; otherwise cells are resampled within each group.

    Parameters
    ----------
    sums
        Sums of each method, from `sums_by_cell`.
    groups
        Group of each cell; shape (n_cells,).
    large
        As for `scores_from_sums`.
    n
        Number of bootstrap samples.
    seed
        Seed of the draws.

    Returns
    -------
    For each method, scores of shape (n, 6).
    """
    rng = np.random.default_rng(seed)
    names, members = np.unique(groups, return_inverse=True)
    by_group = len(names) >= MIN_GROUPS
    if by_group:
        to_groups = _one_hot(members, len(names)).T.tocsr()
        sums = {name: (to_groups @ table).tocsr() for name, table in sums.items()}
        members = np.zeros(len(names), dtype=np.int64)  # all groups are in one stratum
    results: dict[str, list[Floats]] = {name: [np.empty((0, len(SCORES)))] for name in sums}
    for start in range(0, n, BLOCK):
        weights = draw_weights(members, min(BLOCK, n - start), rng)
        for name, table in sums.items():
            results[name].append(scores_from_sums(np.asarray(weights @ table), large))
    return {name: np.concatenate(blocks) for name, blocks in results.items()}


def draw_weights(strata: NDArray[np.integer], n: int, rng: np.random.Generator) -> Floats:
    """Number of times that each unit is drawn, with replacement within its stratum; shape (n, n_units)."""
    weights = np.zeros((n, len(strata)))
    for stratum in np.unique(strata):
        units = np.flatnonzero(strata == stratum)
        weights[:, units] = rng.multinomial(len(units), np.full(len(units), 1 / len(units)), size=n)
    return weights


def interval(samples: Floats) -> tuple[Floats, Floats]:
    """Ends of the 95 % percentile interval, NaN without samples; shape (n_scores,) each."""
    ends = np.full((2, samples.shape[1]), np.nan)
    present = ~np.isnan(samples).all(axis=0)
    if present.any():
        ends[:, present] = np.nanquantile(samples[:, present], [0.025, 0.975], axis=0)
    return ends[0], ends[1]


def _one_hot(codes: NDArray[np.integer], k: int) -> sp.csr_matrix:
    n = len(codes)
    return sp.csr_matrix((np.ones(n), (np.arange(n), codes)), shape=(n, k))


def _mean(values: Floats, counted: NDArray[np.bool_]) -> Floats:
    """Mean over the last axis of the values marked in `counted`; NaN if there are none."""
    return np.asarray(np.where(counted, values, 0.0).sum(axis=-1) / counted.sum(axis=-1))
