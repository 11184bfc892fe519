"""Answers of several methods for the same cells, and the rows of the table that they are scored in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from polygene_scverse.evaluation._baselines import MAJORITY
from polygene_scverse.evaluation._bootstrap import (
    LEAST_CELLS,
    LOWER_IS_BETTER,
    SCORES,
    bootstrap,
    interval,
    scores_of,
    sums_by_cell,
)

OURS = "Polygene"
Row = dict[str, Any]


@dataclass
class Answers:
    """What methods say about one phenotype of test cells.

    Parameters
    ----------
    rows
        Row numbers of the cells; shape (n_test,).
    codes
        True categories, -1 where unknown or not in the training cells; shape (n_test,).
    recorded
        Whether a category is recorded; shape (n_test,).
    probabilities
        By method, shape (n_test, n_categories).
    predicted
        Category that each method decides for, shape (n_test,).
    """

    rows: NDArray[np.int64]
    codes: NDArray[np.int64]
    recorded: NDArray[np.bool_]
    probabilities: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    predicted: dict[str, NDArray[np.int64]] = field(default_factory=dict)

    def add(self, method: str, probabilities: NDArray[np.float64], predicted: NDArray[np.integer]) -> None:
        """Note the answers of a method."""
        self.probabilities[method], self.predicted[method] = probabilities, predicted.astype(np.int64)

    @property
    def n_unseen(self) -> int:
        """Number of cells whose category their training cells do not have."""
        return int((self.recorded & (self.codes < 0)).sum())

    @classmethod
    def join(cls, parts: Sequence[Answers]) -> Answers:
        """Answers of several folds, one after the other."""
        rows, codes, recorded = (
            np.concatenate([getattr(p, name) for p in parts]) for name in ("rows", "codes", "recorded")
        )
        joined = cls(rows, codes, recorded)
        for method in parts[0].probabilities:
            probabilities = np.concatenate([p.probabilities[method] for p in parts])
            joined.add(method, probabilities, np.concatenate([p.predicted[method] for p in parts]))
        return joined

    def known(self) -> Answers:
        """The cells whose category is known and was in training."""
        keep = self.codes >= 0
        some = Answers(self.rows[keep], self.codes[keep], self.recorded[keep])
        for method, probabilities in self.probabilities.items():
            some.add(method, probabilities[keep], self.predicted[method][keep])
        return some


def large_categories(codes: NDArray[np.integer], n: int) -> NDArray[np.bool_]:
    """Categories with at least ten cells; shape (n,)."""
    return np.bincount(codes, minlength=n) >= LEAST_CELLS


def score_rows(phenotype: str, answers: Answers, groups: NDArray[np.integer], n_bootstrap: int, seed: int) -> list[Row]:
    """A row per method and score, with intervals and the paired difference to ours.

    Parameters
    ----------
    phenotype
        Its name.
    answers
        Of all test cells.
    groups
        Group of each cell of the data; shape (n_obs,).
    n_bootstrap, seed
        See `bootstrap`.
    """
    answers = answers.known()
    if not len(answers.codes):
        raise ValueError(
            f"`phenotypes`: no test cell has a known value of {phenotype!r} that is in the training cells too. Leave "
            "it out, or pass another split."
        )
    of_cells = groups[answers.rows]
    sums = {m: sums_by_cell(answers.codes, p, answers.predicted[m]) for m, p in answers.probabilities.items()}
    large = large_categories(answers.codes, answers.probabilities[OURS].shape[1])
    values = {m: scores_of(np.asarray(table.sum(axis=0)).ravel(), large) for m, table in sums.items()}
    samples = bootstrap(sums, of_cells, large, n_bootstrap, seed)
    size = {"n_cells": len(of_cells), "n_groups": len(np.unique(of_cells))}
    rows = []
    for method, value in values.items():
        low, high = interval(samples[method])
        d_low, d_high = interval(samples[OURS] - samples[method])
        for i, score in enumerate(SCORES):
            row = {"phenotype": phenotype, "method": method, "score": score, "value": value[i]}
            row |= {"low": low[i], "high": high[i], "difference": values[OURS][i] - value[i]}
            row |= {"difference_low": d_low[i], "difference_high": d_high[i]}
            row["verdict"] = "" if method in (OURS, MAJORITY) else verdict(score, d_low[i], d_high[i])
            rows.append(row | size)
    return rows


def verdict(score: str, low: float, high: float) -> str:
    """Whether ours is better or worse than a rival, by the interval of ours minus the rival's."""
    sign = -1 if score in LOWER_IS_BETTER else 1
    if low > 0 or high < 0:
        return "better" if sign * low > 0 else "worse"
    return "level"


def group_rows(answers: Mapping[str, Answers], groups: NDArray[np.integer], column: pd.Series) -> list[Row]:
    """Scores of each method in each test group, without intervals."""
    names = column.astype(str).to_numpy()
    rows = []
    for phenotype, all_cells in answers.items():
        known = all_cells.known()
        of_cells = groups[known.rows]
        for group in np.unique(of_cells):
            at = np.flatnonzero(of_cells == group)
            large = large_categories(known.codes[at], known.probabilities[OURS].shape[1])
            for method, probabilities in known.probabilities.items():
                table = sums_by_cell(known.codes[at], probabilities[at], known.predicted[method][at])
                values = scores_of(np.asarray(table.sum(axis=0)).ravel(), large)
                row = {"phenotype": phenotype, "group": names[known.rows[at[0]]], "method": method}
                rows += [
                    row | {"score": s, "value": v, "n_cells": len(at)} for s, v in zip(SCORES, values, strict=True)
                ]
    return rows
