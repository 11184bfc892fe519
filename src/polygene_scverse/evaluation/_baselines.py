"""The baselines: which are available, which to run, and how to train one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from polygene_scverse._validate import check_choice, check_names, shorten
from polygene_scverse.evaluation._celltypist import celltypist_probabilities, celltypist_problem
from polygene_scverse.evaluation._features import Features
from polygene_scverse.evaluation._folds import Codes
from polygene_scverse.evaluation._scanvi import scanvi_probabilities
from polygene_scverse.evaluation._scikit_learn import CLASSIFIERS, fit_predict

Baseline = Callable[[Features, Codes, Codes | None, Features, int], NDArray[np.float64]]
"""Function of training cells, their categories and groups, test cells and a seed. It returns the probabilities of the
categories that occur in training, in ascending order; shape (n_test, n_found)."""
CELLTYPIST = "CellTypist"
BASELINES: dict[str, Baseline] = {
    **{name: partial(fit_predict, name) for name in CLASSIFIERS},
    CELLTYPIST: celltypist_probabilities,
    "scANVI": scanvi_probabilities,
}


def choose_baselines(baselines: str | Sequence[str] | None) -> list[str]:
    """Names of the baselines to run; None for those of scikit-learn, and CellTypist if it can be trained.

    Raises
    ------
    ValueError
        If a name is unknown, or CellTypist is named and cannot be trained.
    """
    if baselines is None:
        return [*CLASSIFIERS, *([] if celltypist_problem() else [CELLTYPIST])]
    names = check_names(baselines, "baselines")
    for name in names:
        check_choice(name, list(BASELINES), "baselines")
    if CELLTYPIST in names and (problem := celltypist_problem()):
        others = [name for name in BASELINES if name != CELLTYPIST]
        raise ValueError(f"`baselines`: CellTypist cannot be trained here: {problem}. Pass some of {shorten(others)}.")
    return names


def baseline_probabilities(
    name: str, train: Features, codes: Codes, groups: Codes | None, test: Features, n_categories: int, seed: int
) -> NDArray[np.float64]:
    """Train a baseline on the cells whose category is known, and predict the test cells.

    Parameters
    ----------
    name
        Name in `BASELINES`.
    train, test
        Training and test cells.
    codes
        Category of each training cell, -1 where unknown; shape (n_train,).
    groups
        Group of each training cell, kept whole in cross-validation of penalties; None if there are none.
    n_categories
        Number of categories.
    seed
        Random seed.

    Returns
    -------
    Probabilities, 0 for categories without training cells; shape (n_test, n_categories).
    """
    known = codes >= 0
    probabilities = np.zeros((len(test.x), n_categories))
    cells = train if known.all() else train.take(known)
    known_groups = None if groups is None else groups[known]
    found = np.unique(codes[known])
    probabilities[:, found] = BASELINES[name](cells, codes[known], known_groups, test, seed)
    return probabilities
