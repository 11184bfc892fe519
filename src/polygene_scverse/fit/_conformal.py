"""Sets of categories that hold the true one as often as asked."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from polygene_scverse._validate import shorten


@dataclass(frozen=True)
class ConformalScores:
    """What calibration cells say about how probable a true category is.

    Parameters
    ----------
    codes
        True category of each calibration cell; shape (n_cells,).
    probabilities
        Its probability; shape (n_cells,).
    """

    codes: NDArray[np.int32]
    probabilities: NDArray[np.float32]

    def thresholds(
        self, phenotype: str, categories: Sequence[str], coverage: float, by_category: bool
    ) -> NDArray[np.float64]:
        """Probability from which on each category belongs to a set; shape (n_categories,).

        Parameters
        ----------
        phenotype
            Its name, for warnings.
        categories
            Its categories.
        coverage
            Share of new cells whose true category shall be in their set.
        by_category
            Whether it shall hold for the cells of each category.
        """
        n_needed = math.ceil(round(1.0 / (1.0 - coverage), 9)) - 1
        if len(self.codes) < n_needed:
            warnings.warn(
                f"`coverage`: {coverage:g} needs {n_needed} calibration cells, but {len(self.codes)} with a known "
                f"{phenotype!r} were held out: every set holds all categories. Hold out more cells in training, or "
                "call model.calibrate(adata) with other labelled cells.",
                UserWarning,
                stacklevel=5,
            )
        found = np.full(len(categories), conformal_threshold(self.probabilities, coverage))
        if not by_category:
            return found
        counts = np.bincount(self.codes.astype(np.int64), minlength=len(categories))
        for code in np.flatnonzero(counts >= n_needed):
            found[code] = conformal_threshold(self.probabilities[self.codes == code], coverage)
        if len(few := np.flatnonzero(counts < n_needed)) and len(self.codes) >= n_needed:
            warnings.warn(
                f"`by_category`: {coverage:g} needs {n_needed} calibration cells of each category of {phenotype!r}, "
                f"but there are fewer of {shorten(categories[int(code)] for code in few)}: these take the threshold of "
                "all cells, so that their own coverage is not known.",
                UserWarning,
                stacklevel=5,
            )
        return found


def conformal_threshold(true_probabilities: NDArray[np.floating], coverage: float) -> float:
    """Lowest probability with which a category belongs to the set, by split conformal prediction.

    The score of a cell is 1 - (probability of its true category), the quantile that of rank
    ceil((n + 1) coverage). Of all sets with this coverage these are the smallest on average.

    Parameters
    ----------
    true_probabilities
        Probability of the true category of each calibration cell; shape (n_cells,).
    coverage
        Share of new cells whose true category shall be in their set.

    Returns
    -------
    A probability; 0 if there are too few cells to say anything, so that every category belongs to the set.

    References
    ----------
    Sadinle, Lei, Wasserman: Least ambiguous set-valued classifiers with bounded error levels. JASA 2019.
    """
    n = len(true_probabilities)
    rank = n + 1 - math.ceil(round((n + 1) * coverage, 9))  # rounded: (9 + 1) * 0.9 is not 9 in binary
    return float(np.sort(true_probabilities)[rank - 1]) if rank >= 1 else 0.0
