"""Baselines from scikit-learn; penalties are tuned by cross-validation within the training cells."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, GroupKFold, StratifiedKFold
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from polygene_scverse.evaluation._features import Features
from polygene_scverse.evaluation._folds import Codes, Fold

N_COMPONENTS, N_NEIGHBORS = 50, 15
MAJORITY = "majority"
GRIDS = {
    "logisticregression": {"logisticregression__C": (1e-3, 1e-2, 1e-1)},
    "lineardiscriminantanalysis": {"lineardiscriminantanalysis__shrinkage": (0.1, 0.3, 0.6, 0.9)},
}
"""Values to try, by the last step: inverse of the penalty; weight of the identity matrix in the covariance."""


def inner_folds(x: NDArray[np.float32], labels: Codes, groups: Codes | None, n_folds: int = 3) -> list[Fold]:
    """At most `n_folds` folds within the training cells, of whole groups if there are at least three.

    Raises
    ------
    ValueError
        If no category has two cells.
    """
    n_groups = 0 if groups is None else len(np.unique(groups))
    if n_groups >= 3:
        return list(GroupKFold(min(n_folds, n_groups)).split(x, labels, groups))
    counts = np.unique(labels, return_counts=True)[1]
    if counts.max() < 2:
        raise ValueError(
            f"`baselines`: the {len(labels)} training cells of a fold have a category each, but two cells of one are "
            "needed. Pass baselines=[] for none, more cells, or other phenotypes."
        )
    rarest = int(counts.min())
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The least populated class")  # a category of one cell
        return list(StratifiedKFold(min(n_folds, max(2, rarest))).split(x, labels))


def pipelines(n: int, seed: int) -> dict[str, Any]:
    """Each classifier with its preprocessing.

    Parameters
    ----------
    n
        Number of genes, or of cells in the smallest fold if that is lower.
    seed
        Random seed.
    """
    scaler, pca = StandardScaler(), PCA(min(N_COMPONENTS, n), random_state=seed)
    plain, balanced = (LogisticRegression(max_iter=1000, class_weight=weight) for weight in (None, "balanced"))
    # without the penalty, a category with one or two cells drives the scores to infinity
    trees = HistGradientBoostingClassifier(early_stopping=False, l2_regularization=10.0, random_state=seed)
    return {
        MAJORITY: make_pipeline(DummyClassifier(strategy="prior")),
        "kNN on PCs": make_pipeline(pca, KNeighborsClassifier(min(N_NEIGHBORS, n))),
        "logistic regression on HVGs": make_pipeline(scaler, plain),
        "logistic regression on HVGs, balanced": make_pipeline(scaler, balanced),
        "logistic regression on PCs": make_pipeline(scaler, pca, plain),
        "logistic regression on PCs, balanced": make_pipeline(scaler, pca, balanced),
        "boosted trees on PCs": make_pipeline(pca, trees),
        "shrunken LDA on HVGs": make_pipeline(scaler, LinearDiscriminantAnalysis(solver="lsqr")),
    }


CLASSIFIERS = tuple(pipelines(1, 0))
"""Names of the classifiers."""


def fit_predict(
    name: str, train: Features, labels: Codes, groups: Codes | None, test: Features, seed: int, n_folds: int = 3
) -> NDArray[np.float64]:
    """Train a classifier, tuned by cross-validation if it has a grid, and predict; with a name it is a `Baseline`."""
    folds = inner_folds(train.x, labels, groups, n_folds)
    pipeline = pipelines(min(train.x.shape[1], *(len(rows) for rows, _ in folds)), seed)[name]
    grid = GRIDS.get(pipeline.steps[-1][0])
    classifier = GridSearchCV(pipeline, grid, cv=folds, scoring="f1_macro") if grid else pipeline
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Only one sample available")  # LDA with a category of one cell
        return np.asarray(classifier.fit(train.x, labels).predict_proba(test.x))
