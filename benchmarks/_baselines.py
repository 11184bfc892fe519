"""Simple baselines on the same cells and genes, with scikit-learn."""

from __future__ import annotations

import numpy as np
import pandas as pd
import scanpy as sc
from _splits import Task

from polygene_scverse._constants import N_GENES
from polygene_scverse.evaluation._features import Features
from polygene_scverse.evaluation._scikit_learn import MAJORITY, fit_predict

CLASSIFIERS = {
    "majority": MAJORITY,
    "kNN on 50 PCs": "kNN on PCs",
    "logistic regression": "logistic regression on HVGs",
    "logistic regression, balanced": "logistic regression on HVGs, balanced",
}


def features(task: Task, n_genes: int = N_GENES) -> tuple[np.ndarray, np.ndarray]:
    """log1p(CP10k) of the training cells' highly variable genes, dense; shape (n_cells, n_genes) each."""
    sides = [task.train.copy(), task.test.copy()]
    for side in sides:
        if np.all(side.X.data == np.rint(side.X.data)):
            sc.pp.normalize_total(side, target_sum=1e4)
            sc.pp.log1p(side)
    genes = np.ones(task.train.n_vars, dtype=bool)
    if task.train.n_vars > n_genes:
        genes = sc.pp.highly_variable_genes(sides[0], n_top_genes=n_genes, inplace=False)["highly_variable"].to_numpy()
    return tuple(side[:, genes].X.toarray() for side in sides)


def run(task: Task, phenotype: str) -> dict[str, np.ndarray]:
    """Probabilities of each baseline for the test cells; columns are the sorted categories of the training cells."""
    train, test = (Features(x, None) for x in features(task))
    recorded = task.train.obs[phenotype]
    known = recorded.notna().to_numpy()
    labels = pd.factorize(recorded[known].astype(str), sort=True)[0]
    groups = None if task.group is None else pd.factorize(task.group[known], sort=True)[0]
    return {
        name: fit_predict(classifier, train.take(known), labels, groups, test, 0, n_folds=5)
        for name, classifier in CLASSIFIERS.items()
    }
