"""The baselines by name: which can be had, which to run, and how one is trained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from polygene_scverse._validate import check_choice, shorten
from polygene_scverse.evaluation._celltypist import celltypist_probabilities, celltypist_problem
from polygene_scverse.evaluation._features import Features
from polygene_scverse.evaluation._folds import Codes
from polygene_scverse.evaluation._scanvi import scanvi_probabilities
from polygene_scverse.evaluation._scikit_learn import CLASSIFIERS, fit_predict

Baseline = Callable[[Features, Codes, Codes | None, Features, int], NDArray[np.float64]]
"""From training cells, the category of each, their groups, test cells and a seed: probabilities of the categories that
occur, ascending; shape (n_test, n_found)."""
CELLTYPIST = "CellTypist"
BASELINES: dict[str, Baseline] = {
    **{name: partial(fit_predict, name) for name in CLASSIFIERS},
    CELLTYPIST: celltypist_probabilities,
    "scANVI": scanvi_probabilities,
}


def choose_baselines(baselines: str | Sequence[str] | None) -> list[str]:
    """Names of the baselines to run; None for those of scikit-learn, and CellTypist where it can be trained.

    Raises
    ------
    ValueError
        If a name is unknown, or CellTypist is named and cannot be trained.
    """
    if baselines is None:
        return [*CLASSIFIERS, *([] if celltypist_problem() else [CELLTYPIST])]
    names = [baselines] if isinstance(baselines, str) else list(baselines)
    for name in names:
        check_choice(name, list(BASELINES), "baselines")
    if CELLTYPIST in names and (problem := celltypist_problem()):
        others = [name for name in BASELINES if name != CELLTYPIST]
        raise ValueError(f"`baselines`: CellTypist cannot be trained here: {problem}. Pass some of {shorten(others)}.")
    return names


def baseline_probabilities(
    name: str, train: Features, codes: Codes, groups: Codes | None, test: Features, n_categories: int, seed: int
) -> NDArray[np.float64]:
    """Train a baseline on the cells whose category is known, and predict.

    Parameters
    ----------
    name
        Its name in `BASELINES`.
    train, test
        The cells.
    codes
        Category of each training cell, -1 where unknown; shape (n_train,).
    groups
        Group of each training cell, which stays whole while penalties are tuned; None if there is none.
    n_categories
        Number of categories.
    seed
        Seed of what is drawn.

    Returns
    -------
    Probabilities, 0 for categories without a training cell; shape (n_test, n_categories).
    """
    known = codes >= 0
    probabilities = np.zeros((len(test.x), n_categories))
    cells = train if known.all() else train.take(known)
    known_groups = None if groups is None else groups[known]
    found = np.unique(codes[known])
    probabilities[:, found] = BASELINES[name](cells, codes[known], known_groups, test, seed)
    return probabilities
