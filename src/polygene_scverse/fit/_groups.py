"""Effect of new groups (donors, samples) on calibration, estimated by predicting the training groups from each other.

Shapes: N cells, C categories.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from polygene_scverse.fit._discriminants import MAX_GENES, ScatterSums, VarianceSums
from polygene_scverse.fit._earlier_cells import KnownSums
from polygene_scverse.fit._temperature import fit_temperature

Cells = Callable[[NDArray[np.int64]], NDArray[np.float32]]
"""Function that returns the standardised expression of some cells; shape (n_rows, n_genes)."""
MAX_FOLDS: Final = 5
"""Maximum number of folds of groups, each predicted from the others."""
MIN_CELLS: Final = 20
"""Minimum number of cells predicted from other groups for an estimate."""
STRENGTH: Final = 3.0
"""Weight of the default factor, in groups."""
USUAL_FACTOR: Final = 1.15
"""Default factor of temperatures for cells of new groups."""
USUAL_FACTOR_CONSTANT: Final = 4.0
"""The same for phenotypes that are constant within groups, for which each group is a single example."""
HIGHEST_FACTOR: Final = 20.0
"""Upper limit of the factor; above it, predictions from other groups are no better than guesses."""
FAR_BELOW: Final = -1e5
"""Discriminant of a category that no other group has."""


@dataclass(frozen=True)
class GroupShift:
    """How much flatter probabilities must be for cells of new groups than for other cells of the training groups.

    Parameters
    ----------
    name
        Name of the obs column of the groups.
    n_groups
        Number of groups among the training cells.
    factor
        Factor of the temperature; at least 1.
    measured
        Factor estimated from the training groups alone, NaN if it cannot be estimated.
    logits
        Logits of training cells predicted from other groups; shape (N, C), with N = 0 if this is not possible.
    codes
        Their categories; shape (N,).
    groups
        Their groups, as numbers; shape (N,).
    """

    name: str
    n_groups: int
    factor: float
    measured: float
    logits: NDArray[np.float32]
    codes: NDArray[np.int64]
    groups: NDArray[np.int64]


def fit_group_shift(
    cells: Cells,
    codes: NDArray[np.integer],
    n_categories: int,
    groups: NDArray[np.integer],
    *,
    name: str,
    scale: float,
    prior: float,
    known: KnownSums | None = None,
    seed: int = 0,
) -> GroupShift:
    """Compare predictions of groups from other groups with predictions of random folds of the same size.

    The factor is the ratio of the temperatures fitted to both, with the same total weight for each group. Random folds
    have the same number of training cells, so that the ratio reflects groups alone. The log of the factor is shrunk
    towards the default, which has the weight of `STRENGTH` groups.

    Parameters
    ----------
    cells
        Function that returns the standardised expression of some cells.
    codes
        Category of each cell, -1 where unknown; shape (N,).
    n_categories
        Number of categories.
    groups
        Group of each cell, as numbers from 0; shape (N,).
    name
        Name of the obs column of the groups.
    scale
        Default temperature of the discriminants.
    prior
        Exponent of a category's share in its prior; prior * log(share) is added to the logit.
    known
        Sums over cells without group that are added to the training cells of each fold.
    seed
        Seed of the folds.
    """
    rng, n_groups = np.random.default_rng(seed), int(groups.max(initial=-1)) + 1
    has_category = codes >= 0
    usual = USUAL_FACTOR_CONSTANT if is_constant_within(codes, groups) else USUAL_FACTOR
    nothing = np.zeros((0, n_categories), np.float32), np.zeros(0, np.int64), np.zeros(0, np.int64)
    if n_groups < 2:
        return GroupShift(name, n_groups, usual, np.nan, *nothing)
    by_group = (rng.permutation(n_groups) % min(MAX_FOLDS, n_groups))[groups]
    apart, mixed = (
        _out_of_fold(cells, codes, n_categories, folds, known) for folds in (by_group, rng.permutation(by_group))
    )
    rows, others = (np.flatnonzero(np.isfinite(z).all(axis=1)) for z in (apart, mixed))
    if min(len(rows), len(others)) < MIN_CELLS:
        return GroupShift(name, n_groups, usual, np.nan, *nothing)
    sizes = np.bincount(groups[rows], minlength=n_groups)
    weights = len(rows) / np.count_nonzero(sizes) / sizes[groups[rows]]
    of_others = fit_temperature(mixed[others] / scale, codes[others])
    measured = float(
        np.clip(fit_temperature(apart[rows] / scale, codes[rows], weights) / of_others, 1.0, HIGHEST_FACTOR)
    )
    n_seen = np.count_nonzero(sizes)
    factor = np.exp((n_seen * np.log(measured) + STRENGTH * np.log(usual)) / (n_seen + STRENGTH))
    counts = np.bincount(codes[has_category], minlength=n_categories) + (0 if known is None else known.drawn.counts)
    shares = np.maximum(counts, 0.5) / max(counts.sum(), 1)
    logits = apart[rows] / (scale * of_others) + prior * np.log(shares)
    of_rows = codes[rows].astype(np.int64), groups[rows].astype(np.int64)
    return GroupShift(name, n_groups, float(factor), measured, logits.astype(np.float32), *of_rows)


def is_constant_within(codes: NDArray[np.integer], groups: NDArray[np.integer]) -> bool:
    """Whether the cells of each group with a known category all have the same one."""
    known = codes >= 0
    pairs = np.unique(np.stack([groups[known], codes[known]]), axis=1)
    return len(np.unique(pairs[0])) == int(pairs.shape[1])


def _out_of_fold(
    cells: Cells,
    codes: NDArray[np.integer],
    n_categories: int,
    folds: NDArray[np.integer],
    known: KnownSums | None,
) -> NDArray[np.float64]:
    """Discriminants of the cells of each fold, fitted to all other folds; shape (N, C).

    NaN if the category of the cell is unknown, or if the other folds do not contain it or have only one category.
    """
    found = np.full((len(codes), n_categories), np.nan)
    for fold in np.unique(folds):
        rest, own = (np.flatnonzero((codes >= 0) & side) for side in (folds != fold, folds == fold))
        counts = np.bincount(codes[rest], minlength=n_categories) + (0 if known is None else known.drawn.counts)
        own = own[counts[codes[own]] > 0]
        if np.count_nonzero(counts) < 2 or not len(own):
            continue
        x = cells(rest)
        variances = VarianceSums.fit(x, codes[rest], n_categories)
        variances = variances if known is None else variances + known.variances
        genes = variances.most_different_genes(MAX_GENES)
        sums = ScatterSums.fit(x[:, genes], codes[rest], n_categories)
        fitted = (sums if known is None else sums + known.scatter(genes)).discriminants()
        found[own] = np.where(counts > 0, fitted(cells(own)[:, genes]), FAR_BELOW)
    return found
