"""Simple baselines on the same cells and genes, by scikit-learn."""

from __future__ import annotations

import numpy as np
import scanpy as sc
from _splits import Task
from sklearn.decomposition import PCA
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, GroupKFold, StratifiedKFold
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from polygene_scverse._constants import N_GENES

CS = [1e-3, 1e-2, 1e-1]


def features(task: Task, n_genes: int = N_GENES) -> tuple[np.ndarray, np.ndarray]:
    """log1p(CP10k) of the training cells' highly variable genes, dense; shape (n_cells, n_genes) each."""
    sides = []
    for side in (task.train, task.test):
        side = side.copy()
        if np.all(side.X.data == np.rint(side.X.data)):
            sc.pp.normalize_total(side, target_sum=1e4)
            sc.pp.log1p(side)
        sides.append(side)
    genes = np.ones(task.train.n_vars, dtype=bool)
    if task.train.n_vars > n_genes:
        genes = sc.pp.highly_variable_genes(sides[0], n_top_genes=n_genes, inplace=False)["highly_variable"].to_numpy()
    return tuple(side[:, genes].X.toarray() for side in sides)


def classifiers(task: Task, labels: np.ndarray) -> dict[str, object]:
    """Name and classifier of each baseline; the strength of penalties is tuned within the training cells.

    Parameters
    ----------
    task
        The data set.
    labels
        Known labels of the training cells, which decide how many folds there can be.
    """
    n_folds = int(max(2, min(5, np.bincount(np.unique(labels, return_inverse=True)[1]).min())))
    folds = StratifiedKFold(n_folds) if task.group is None else GroupKFold(min(5, task.group.nunique()))

    def tuned(**kwargs: object) -> GridSearchCV:
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500, **kwargs))
        return GridSearchCV(model, {"logisticregression__C": CS}, cv=folds, scoring="f1_macro")

    return {
        "majority": DummyClassifier(strategy="prior"),
        "kNN on 50 PCs": make_pipeline(PCA(50, random_state=0), KNeighborsClassifier(15)),
        "logistic regression": tuned(),
        "logistic regression, balanced": tuned(class_weight="balanced"),
    }


def run(task: Task, phenotype: str) -> dict[str, np.ndarray]:
    """Probabilities of each baseline on the test cells; columns are the categories of the training cells, sorted."""
    train_x, test_x = features(task)
    recorded = task.train.obs[phenotype]
    known = recorded.notna().to_numpy()
    labels = recorded[known].astype(str).to_numpy()
    groups = None if task.group is None else task.group[known]
    probabilities = {}
    for name, classifier in classifiers(task, labels).items():
        extra = {"groups": groups} if isinstance(classifier, GridSearchCV) and groups is not None else {}
        probabilities[name] = classifier.fit(train_x[known], labels, **extra).predict_proba(test_x)
    return probabilities
