"""CellTypist as a baseline, if it is installed and can be trained."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

import numpy as np
from anndata import AnnData
from numpy.typing import NDArray

from polygene_scverse._quiet import quiet
from polygene_scverse.evaluation._features import Features
from polygene_scverse.evaluation._folds import Codes


def celltypist_problem() -> str:
    """Reason why CellTypist cannot be trained; empty if it can."""
    try:
        version("celltypist")
    except PackageNotFoundError:
        return "it is not installed"
    if tuple(int(number) for number in version("scikit-learn").split(".")[:2]) >= (1, 8):
        return f"it passes an argument to LogisticRegression that scikit-learn {version('scikit-learn')} removed"
    return ""


def celltypist_probabilities(
    train: Features, labels: Codes, groups: Codes | None, test: Features, seed: int
) -> NDArray[np.float64]:
    """One-vs-rest logistic regression of CellTypist; its sigmoid outputs are normalised to a sum of 1."""
    import celltypist  # optional dependency

    genes = np.array([f"gene{i}" for i in range(train.x.shape[1])])
    query = AnnData(test.x)
    query.var_names = genes
    with quiet("celltypist.logger"):
        model = celltypist.train(train.x, labels=labels.astype(str), genes=genes, check_expression=False, n_jobs=1)
        table = celltypist.annotate(query, model=model).probability_matrix
    values = table[[str(label) for label in np.unique(labels)]].to_numpy(dtype=np.float64)
    return np.asarray(values / values.sum(axis=1, keepdims=True))
