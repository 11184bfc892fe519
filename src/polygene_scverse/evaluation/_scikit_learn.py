"""Baselines by scikit-learn; strengths of penalties are tuned inside the training cells."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

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

N_COMPONENTS, N_NEIGHBORS, N_INNER_FOLDS = 50, 15, 3
PENALTIES = {"logisticregression__C": (1e-3, 1e-2, 1e-1)}
"""Values that are tried for C, the inverse of the penalty."""
SHRINKAGES = {"lineardiscriminantanalysis__shrinkage": (0.1, 0.3, 0.6, 0.9)}
"""Values that are tried for the weight of the identity in the covariance of genes."""
MAJORITY = "majority"


class Classifier(Protocol):
    """What is used of a classifier of scikit-learn, which has no types."""

    def fit(self, X: NDArray[np.float32], y: Codes, /) -> Classifier:
        """Learn from cells of shape (n_cells, n_genes) and their categories."""

    def predict_proba(self, X: NDArray[np.float32], /) -> NDArray[np.float64]:
        """Probabilities of the categories that occurred, ascending; shape (n_cells, n_found)."""


def inner_folds(x: NDArray[np.float32], labels: Codes, groups: Codes | None) -> list[Fold]:
    """Folds inside the training cells: of whole groups where there are three or more."""
    n_groups = 0 if groups is None else len(np.unique(groups))
    if n_groups >= 3:
        return list(GroupKFold(min(N_INNER_FOLDS, n_groups)).split(x, labels, groups))
    rarest = int(np.unique(labels, return_counts=True)[1].min())
    return list(StratifiedKFold(min(N_INNER_FOLDS, max(2, rarest))).split(x, labels))


def _tuned(folds: Sequence[Fold], grid: Mapping[str, Sequence[float]], *steps: Any) -> Classifier:
    search: Classifier = GridSearchCV(make_pipeline(*steps), dict(grid), cv=folds, scoring="f1_macro")
    return search


def _pca(n: int, seed: int) -> Any:
    return PCA(min(N_COMPONENTS, n), random_state=seed)


def _logistic_regression(
    n: int, folds: Sequence[Fold], seed: int, *, on_pcs: bool = False, class_weight: str | None = None
) -> Classifier:
    classifier = LogisticRegression(max_iter=1000, class_weight=class_weight)
    return _tuned(folds, PENALTIES, StandardScaler(), *([_pca(n, seed)] if on_pcs else []), classifier)


def _boosted_trees(n: int, folds: Sequence[Fold], seed: int) -> Classifier:
    # without the penalty a category of one or two cells drives all scores to infinity
    trees = HistGradientBoostingClassifier(early_stopping=False, l2_regularization=10.0, random_state=seed)
    pipeline: Classifier = make_pipeline(_pca(n, seed), trees)
    return pipeline


CLASSIFIERS: dict[str, Callable[[int, Sequence[Fold], int], Classifier]] = {
    MAJORITY: lambda n, folds, seed: DummyClassifier(strategy="prior"),
    "kNN on PCs": lambda n, folds, seed: make_pipeline(_pca(n, seed), KNeighborsClassifier(min(N_NEIGHBORS, n))),
    "logistic regression on HVGs": _logistic_regression,
    "logistic regression on HVGs, balanced": partial(_logistic_regression, class_weight="balanced"),
    "logistic regression on PCs": partial(_logistic_regression, on_pcs=True),
    "logistic regression on PCs, balanced": partial(_logistic_regression, on_pcs=True, class_weight="balanced"),
    "boosted trees on PCs": _boosted_trees,
    "shrunken LDA on HVGs": lambda n, folds, seed: _tuned(
        folds, SHRINKAGES, StandardScaler(), LinearDiscriminantAnalysis(solver="lsqr")
    ),
}
"""Make a classifier from the number of genes (or of cells in the smallest fold, if that is lower), folds and seed."""


def fit_predict(
    name: str, train: Features, labels: Codes, groups: Codes | None, test: Features, seed: int
) -> NDArray[np.float64]:
    """Train the classifier of a name in `CLASSIFIERS`, and predict; a `Baseline` once the name is given."""
    folds = inner_folds(train.x, labels, groups)
    smallest = min(len(rows) for rows, _ in folds)
    classifier = CLASSIFIERS[name](min(smallest, train.x.shape[1]), folds, seed)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Only one sample available")  # LDA, where a category has one cell
        return classifier.fit(train.x, labels).predict_proba(test.x)
