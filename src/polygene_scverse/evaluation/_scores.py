"""Rows of the table of scores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from polygene_scverse.evaluation._bootstrap import MIN_GROUPS, SCORES, bootstrap, interval, point_scores, sums_by_cell
from polygene_scverse.evaluation._predictions import MODEL, Predictions
from polygene_scverse.evaluation._scikit_learn import MAJORITY

Row = dict[str, Any]
LOWER_IS_BETTER, MIN_CELLS = ("ece", "nll"), 10
HERE = " in these groups"
"""End of a verdict from fewer groups than can be resampled: its interval does not account for the spread of groups."""


def large_categories(predictions: Predictions) -> NDArray[np.bool_]:
    """Whether each category has at least ten cells; shape (n_categories,)."""
    return np.bincount(predictions.codes, minlength=predictions.probabilities[MODEL].shape[1]) >= MIN_CELLS


def method_scores(predictions: Predictions, method: str) -> NDArray[np.float64]:
    """Scores of a method for cells whose categories are all known; shape (6,)."""
    sums = sums_by_cell(predictions.codes, predictions.probabilities[method], predictions.predicted[method])
    return point_scores(sums, large_categories(predictions))


def score_rows(
    phenotype: str, predictions: Predictions, groups: NDArray[np.integer] | None, n_bootstrap: int, seed: int
) -> list[Row]:
    """One row per method and score, with intervals and the paired difference of the model minus the method.

    Parameters
    ----------
    phenotype
        Name of the phenotype.
    predictions
        Predictions for all test cells.
    groups
        Group of each cell of the data; shape (n_obs,). None if single cells were split.
    n_bootstrap, seed
        See `bootstrap`.

    Raises
    ------
    ValueError
        If the category of no test cell is known.
    """
    predictions = predictions.known()
    if not len(predictions.codes):
        raise ValueError(
            f"`phenotypes`: no test cell has a known value of {phenotype!r} that is in the training cells too. Leave "
            "it out, or pass another split."
        )
    cell_groups = np.zeros_like(predictions.rows) if groups is None else groups[predictions.rows]
    sums = {
        method: sums_by_cell(predictions.codes, probabilities, predictions.predicted[method])
        for method, probabilities in predictions.probabilities.items()
    }
    large = large_categories(predictions)
    values = {method: point_scores(table, large) for method, table in sums.items()}
    samples = bootstrap(sums, cell_groups, large, n_bootstrap, seed)
    size = {"n_cells": len(cell_groups), "n_groups": len(np.unique(cell_groups))}
    few_groups = groups is not None and size["n_groups"] < MIN_GROUPS
    rows = []
    for method, value in values.items():
        low, high = interval(samples[method])
        difference_low, difference_high = interval(samples[MODEL] - samples[method])
        for i, score in enumerate(SCORES):
            row = {"phenotype": phenotype, "method": method, "score": score, "value": value[i]}
            row |= {"low": low[i], "high": high[i], "difference": values[MODEL][i] - value[i]}
            row |= {"difference_low": difference_low[i], "difference_high": difference_high[i]}
            judged = method not in (MODEL, MAJORITY)
            row["verdict"] = (
                verdict(score, difference_low[i], difference_high[i], few_groups=few_groups) if judged else ""
            )
            rows.append(row | size)
    return rows


def verdict(score: str, low: float, high: float, *, few_groups: bool = False) -> str:
    """Whether the model is better or worse than a baseline, from the interval of the model minus the baseline."""
    sign = -1 if score in LOWER_IS_BETTER else 1
    if low > 0 or high < 0:
        return ("better" if sign * low > 0 else "worse") + (HERE if few_groups else "")
    return "not significant"


def group_rows(
    predictions: Mapping[str, Predictions], groups: NDArray[np.integer], column: pd.Series[Any]
) -> list[Row]:
    """Scores of each method in each test group, without intervals."""
    names = column.astype(str).to_numpy()
    rows = []
    for phenotype, all_cells in predictions.items():
        known = all_cells.known()
        cell_groups = groups[known.rows]
        for group in np.unique(cell_groups):
            members = known.take(cell_groups == group)
            for method in members.probabilities:
                row = {"phenotype": phenotype, "group": names[members.rows[0]], "method": method}
                for score, value in zip(SCORES, method_scores(members, method), strict=True):
                    rows.append(row | {"score": score, "value": value, "n_cells": len(members.rows)})
    return rows
