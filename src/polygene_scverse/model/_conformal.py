"""Sets of categories that hold the true one as often as asked."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from polygene_scverse._validate import shorten


def softmax(logits: NDArray[np.float32], temperature: float) -> NDArray[np.float32]:
    """Probabilities as they are predicted, to the last digit; shape (n_cells, n_categories)."""
    scaled = torch.from_numpy(np.ascontiguousarray(logits, dtype=np.float32)) / temperature
    return scaled.softmax(-1).numpy()


def least_probability(of_true: NDArray[np.floating], coverage: float) -> float:
    """Lowest probability with which a category belongs to the set, by split conformal prediction.

    The score of a cell is 1 - (probability of its true category), the quantile that of rank
    ceil((n + 1) coverage). Of all sets with this coverage these are the smallest on average.

    Parameters
    ----------
    of_true
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
    n = len(of_true)
    rank = n + 1 - math.ceil(round((n + 1) * coverage, 9))  # rounded: (9 + 1) * 0.9 is not 9 in binary
    return float(np.sort(of_true)[rank - 1]) if rank >= 1 else 0.0


class ConformalMixin:
    """`prediction_sets` of the model."""

    conformal_: dict[str, dict[str, Any]]
    """For each phenotype the ``codes`` of the calibration cells and the ``probabilities`` of their true categories."""

    def prediction_sets(
        self, probabilities: Mapping[str, pd.DataFrame], *, coverage: float = 0.9, by_category: bool = False
    ) -> dict[str, pd.DataFrame]:
        """Choose for each cell the categories that its true one is among.

        A set holds the categories that are at least as probable as a threshold. The threshold is that of split
        conformal prediction, from the cells that the model was calibrated on (see ``calibration_``). For new cells that
        are drawn like those, the share of sets with the true category is at least `coverage` on average. Cells of new
        donors are drawn like those only if whole donors were held out, and then only if there were many.

        A set may be empty: then no category is as probable as it should be, and the cell may be of none of them.

        Parameters
        ----------
        probabilities
            For each phenotype a table of shape (n_cells, n_categories), as `predict_phenotype` returns it.
        coverage
            Share of the cells whose true category shall be in their set.
        by_category
            Whether it shall hold for the cells of each category, not only for all together; sets are larger then.
            Categories with too few calibration cells take the threshold of all cells, and a warning says which.

        Returns
        -------
        For each phenotype a table like that of the probabilities, True where a category is in the set.

        Raises
        ------
        ValueError
            If `coverage` is not between 0 and 1, or if a table has other columns than the phenotype's categories.
        """
        if not 0.0 < coverage < 1.0:
            raise ValueError(f"`coverage`: found {coverage}, but it must be above 0 and below 1, such as 0.9.")
        sets = {}
        for name, table in probabilities.items():
            categories = self._check_columns(name, table)
            least = self._least_probabilities(name, categories, coverage, by_category)
            sets[name] = table >= least.astype(np.float32)
        return sets

    def _least_probabilities(
        self, name: str, categories: list[str], coverage: float, by_category: bool
    ) -> NDArray[np.float64]:
        """Threshold of each category; shape (n_categories,)."""
        cells = self.conformal_.get(name, {})
        codes, of_true = (np.asarray(cells.get(key, [])) for key in ("codes", "probabilities"))
        of_all = least_probability(of_true, coverage)
        n_needed = math.ceil(round(1.0 / (1.0 - coverage), 9)) - 1
        if len(of_true) < n_needed:
            warnings.warn(
                f"`coverage`: {coverage:g} needs {n_needed} calibration cells, but {len(of_true)} with a known "
                f"{name!r} were held out: every set holds all categories. Hold out more cells in training, or call "
                "model.calibrate(adata) with other labelled cells.",
                UserWarning,
                stacklevel=4,
            )
        least = np.full(len(categories), of_all)
        if not by_category:
            return least
        counts = np.bincount(codes.astype(np.int64), minlength=len(categories))
        for code in np.flatnonzero(counts >= n_needed):
            least[code] = least_probability(of_true[codes == code], coverage)
        if len(few := np.flatnonzero(counts < n_needed)) and len(of_true) >= n_needed:
            warnings.warn(
                f"`by_category`: {coverage:g} needs {n_needed} calibration cells of each category of {name!r}, but "
                f"there are fewer of {shorten(categories[code] for code in few)}: these take the threshold of all "
                "cells, so that their own coverage is not known.",
                UserWarning,
                stacklevel=4,
            )
        return least


def of_true_category(
    logits: NDArray[np.float32], codes: NDArray[np.integer], temperature: float
) -> dict[str, torch.Tensor]:
    """Codes and probabilities of the true categories of calibration cells, to be saved with the model."""
    probabilities = softmax(logits, temperature)[np.arange(len(codes)), codes]  # (n_cells,)
    return {"codes": torch.tensor(codes, dtype=torch.int32), "probabilities": torch.from_numpy(probabilities)}
