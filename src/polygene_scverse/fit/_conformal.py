"""Conformal prediction sets: sets of categories that contain the true one with a given coverage."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from polygene_scverse._validate import shorten, warn


@dataclass(frozen=True)
class ConformalScores:
    """Probabilities of the true categories of calibration cells.

    Parameters
    ----------
    codes
        True category of each calibration cell; shape (n_cells,).
    probabilities
        Predicted probability of the true category; shape (n_cells,).
    groups
        Group of each cell as a number, if each group was predicted from the others. All the same number if groups are
        known but could not be predicted from each other; shape (n_cells,), or empty if groups are not known.
    """

    codes: NDArray[np.int32]
    probabilities: NDArray[np.float32]
    groups: NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, np.int32))

    def sets(
        self,
        phenotype: str,
        categories: Sequence[str],
        probabilities: NDArray[np.floating],
        coverage: float,
        by_category: bool = False,
        *,
        uncertain: NDArray[np.bool_] | bool = False,
    ) -> NDArray[np.bool_]:
        """Whether each category belongs to the set of a cell; shape (n_cells, n_categories).

        With few groups, coverage in new groups, which are predicted less accurately, is uncertain. With few genes or
        few counts, true categories are less probable than in the calibration cells. In these cases, the most probable
        categories that add up to the coverage are included as well, so that no set is empty.

        Parameters
        ----------
        phenotype, categories, coverage, by_category
            As for `thresholds`.
        probabilities
            Predicted probabilities; shape (n_cells, n_categories).
        uncertain
            Whether a cell has much fewer genes or counts than the calibration cells; shape (n_cells,), or one value for
            all cells.
        """
        found: NDArray[np.bool_] = probabilities >= self.thresholds(
            phenotype, categories, coverage, by_category
        ).astype(np.float32)
        wider = np.broadcast_to(uncertain, len(probabilities)) | self._few_groups(coverage)
        found[wider] |= most_probable(probabilities[wider], coverage)
        return found

    def _few_groups(self, coverage: float) -> bool:
        """Whether groups are known, but too few for a guarantee in new groups."""
        return 0 < len(np.unique(self.groups)) < _needed(coverage)

    def thresholds(
        self, phenotype: str, categories: Sequence[str], coverage: float, by_category: bool
    ) -> NDArray[np.float64]:
        """Lowest probability with which each category belongs to a set; shape (n_categories,).

        Parameters
        ----------
        phenotype
            Name of the phenotype, for warnings.
        categories
            Its categories.
        coverage
            Share of new cells whose set should contain the true category.
        by_category
            Whether to aim for this coverage within each category.
        """
        n_needed = _needed(coverage)
        if len(self.codes) < n_needed:
            warn(
                f"`coverage`: {coverage:g} needs {n_needed} calibration cells, but {len(self.codes)} with a known "
                f"{phenotype!r} were held out, so every set contains all categories. Hold out more cells in training, "
                "or call model.calibrate(adata) with other labelled cells."
            )
        threshold = conformal_threshold(self.probabilities, coverage)
        if len(self.groups) and len(self.codes) >= n_needed:
            threshold = group_threshold(self.probabilities, self.groups, coverage)
            if self._few_groups(coverage):
                self._warn_of_few_groups(phenotype, coverage, n_needed, threshold)
        found = np.full(len(categories), threshold)
        if not by_category:
            return found
        counts = np.bincount(self.codes.astype(np.int64), minlength=len(categories))
        for code in np.flatnonzero(counts >= n_needed):
            found[code] = conformal_threshold(self.probabilities[self.codes == code], coverage)
        if len(few := np.flatnonzero(counts < n_needed)) and len(self.codes) >= n_needed:
            warn(
                f"`by_category`: {coverage:g} needs {n_needed} calibration cells of each category of {phenotype!r}, "
                f"but there are fewer of {shorten(categories[int(code)] for code in few)}. These use the threshold of "
                "all cells, so their own coverage is not known."
            )
        return found

    def _warn_of_few_groups(self, phenotype: str, coverage: float, n_needed: int, threshold: float) -> None:
        """Warn that few groups give no guarantee for new ones, and report the coverage in the training groups."""
        names = np.unique(self.groups)
        if len(names) == 1:
            warn(
                f"`coverage`: {coverage:g} is not guaranteed for {phenotype!r} in cells of new groups (donors): this "
                f"needs {n_needed} training groups that can be predicted from each other, and there are none. Sets "
                "are computed from the flattened probabilities instead. Train on more groups for a guarantee."
            )
            return
        held = [float((self.probabilities[self.groups == g] >= threshold).mean()) for g in names]
        warn(
            f"`coverage`: {coverage:g} is not guaranteed for {phenotype!r} in cells of new groups (donors): this needs "
            f"{n_needed} training groups, but there are {len(names)}. When each group was predicted from the others, "
            f"sets contained the true category in {100 * min(held):.0f} to {100 * max(held):.0f} % of its cells."
        )


def _needed(coverage: float) -> int:
    """Minimum number of cells, or groups, with which sets smaller than all categories can guarantee the coverage."""
    return math.ceil(round(1.0 / (1.0 - coverage), 9)) - 1


def most_probable(probabilities: NDArray[np.floating], coverage: float) -> NDArray[np.bool_]:
    """Smallest sets of categories whose probabilities add up to the coverage; shape (n_cells, n_categories)."""
    order = np.argsort(-probabilities, axis=1, kind="stable")
    ordered = np.take_along_axis(probabilities, order, axis=1).astype(np.float64)
    before = np.cumsum(ordered, axis=1) - ordered
    found = np.zeros(probabilities.shape, dtype=np.bool_)
    np.put_along_axis(found, order, before < coverage, axis=1)
    return found


def group_threshold(true_probabilities: NDArray[np.floating], groups: NDArray[np.integer], coverage: float) -> float:
    """Lowest probability with which a category belongs to the set, by hierarchical conformal prediction.

    All groups have the same weight, and a new group counts as one whose cells are all improbable. If there are too few
    groups for this (a coverage of 0.9 needs 9), the new group is left out, and there is no guarantee.

    Parameters
    ----------
    true_probabilities
        Probability of the true category of each cell; shape (n_cells,).
    groups
        Group of each cell; shape (n_cells,).
    coverage
        Share of cells of new groups whose set should contain the true category.

    References
    ----------
    Lee, Barber, Willett: Distribution-free inference with hierarchical data. arXiv:2306.06342, 2023.
    """
    _, number, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    n_groups, missed = len(sizes), 1.0 - coverage
    left = missed * (n_groups + 1) - 1.0  # total weight of cells that may be missed, in groups
    if left < -1e-9:
        left = missed * n_groups
    order = np.argsort(true_probabilities, kind="stable")
    weights = 1.0 / sizes[number.reshape(-1)[order]]
    before = np.cumsum(weights) - weights
    return float(true_probabilities[order][np.flatnonzero(before <= left + 1e-9)[-1]])


def conformal_threshold(true_probabilities: NDArray[np.floating], coverage: float) -> float:
    """Lowest probability with which a category belongs to the set, by split conformal prediction.

    The score of a cell is 1 - (probability of its true category), and the threshold is the quantile of rank
    ceil((n + 1) coverage). Among all sets with this coverage, these are the smallest on average.

    Parameters
    ----------
    true_probabilities
        Probability of the true category of each calibration cell; shape (n_cells,).
    coverage
        Share of new cells whose set should contain the true category.

    Returns
    -------
    A probability; 0 if there are too few cells, so that every category belongs to the set.

    References
    ----------
    Sadinle, Lei, Wasserman: Least ambiguous set-valued classifiers with bounded error levels. JASA 2019.
    """
    n = len(true_probabilities)
    rank = n + 1 - math.ceil(round((n + 1) * coverage, 9))  # rounded: (9 + 1) * 0.9 is not 9 in binary
    return float(np.sort(true_probabilities)[rank - 1]) if rank >= 1 else 0.0
