"""Metrics of the similarity of generated and real cells, as functions of arrays.

Shapes: N and M cells, G genes, K classes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict

Floats = NDArray[np.floating]
Codes = NDArray[np.integer]

MIN_SHARE = 0.1
"""Minimum share of cells expressing a gene for its variance to be compared."""


def normalized(counts: Floats, total: float) -> NDArray[np.float64]:
    """log1p of counts per `total`; shape (N, G)."""
    found: NDArray[np.float64] = np.log1p(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1e-12) * total)
    return found


def forest_scores(x: Floats, y: Floats, seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Out-of-fold probability of belonging to the second set, from a random forest.

    Parameters
    ----------
    x, y
        Two sets of cells; shape (N, G) and (M, G).
    seed
        Seed of the folds and the forest.

    Returns
    -------
    Probabilities for `x` and `y`; shape (N,) and (M,).
    """
    forest = RandomForestClassifier(100, min_samples_leaf=3, random_state=seed)
    folds = StratifiedKFold(3, shuffle=True, random_state=seed)
    of = np.repeat([0, 1], [len(x), len(y)])
    found = cross_val_predict(forest, np.concatenate([x, y]), of, cv=folds, method="predict_proba")[:, 1]
    return found[: len(x)], found[len(x) :]


def auroc(low: Floats, high: Floats) -> float:
    """Probability that a value of `high` is above one of `low`; NaN if either is empty."""
    if not len(low) or not len(high):
        return float("nan")
    return float(roc_auc_score(np.repeat([0, 1], [len(low), len(high)]), np.concatenate([low, high])))


def energy_distance(x: Floats, y: Floats) -> float:
    """Unbiased estimate of the energy distance of two sets of cells; 0 on average if they have the same distribution.

    Parameters
    ----------
    x, y
        Shape (N, G) and (M, G), with at least two cells each.

    References
    ----------
    Székely and Rizzo, Journal of Statistical Planning and Inference 2013.
    """
    within = [cdist(a, a).sum() / (len(a) * (len(a) - 1)) for a in (x, y)]
    return float(2.0 * cdist(x, y).mean() - sum(within))


def gene_correlations(x: Floats, classes: Codes) -> NDArray[np.float64]:
    """Correlations of genes within classes, 0 for constant genes; shape (G (G - 1) / 2,)."""
    z = x.astype(np.float64)
    for k in np.unique(classes):
        z[classes == k] -= z[classes == k].mean(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        found = np.nan_to_num(np.atleast_2d(np.corrcoef(z.T)))
    return np.asarray(found[np.triu_indices(len(found), 1)])


def agreement(x: Floats, y: Floats) -> float:
    """Correlation of two vectors, 0 if one is constant."""
    if len(x) < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return 0.0
    return float(np.corrcoef(x, y)[0, 1])


def mean_error(x: Floats, reference: Floats) -> float:
    """Mean over genes of the absolute difference of mean expression."""
    return float(np.abs(x.mean(axis=0) - reference.mean(axis=0)).mean())


def variance_ratio(x: Floats, reference: Floats) -> float:
    """Median over genes of the ratio of their variance to that in the reference cells.

    Genes expressed in fewer than a tenth of the reference cells are left out; NaN if none is left.
    """
    usable = ((reference > 0).mean(axis=0) >= MIN_SHARE) & (reference.var(axis=0) > 0)
    if not usable.any():
        return float("nan")
    return float(np.median(x[:, usable].var(axis=0) / reference[:, usable].var(axis=0)))


def slope(x: Floats, reference: Floats, n_genes: int = 100) -> float:
    """Slope, through the origin, of changes on those of the reference, over the genes with the largest changes there.

    Parameters
    ----------
    x, reference
        Log-fold changes; shape (G,).
    n_genes
        Number of genes.
    """
    most = np.argsort(-np.abs(reference), kind="stable")[:n_genes]
    size = float(reference[most] @ reference[most])
    return float(x[most] @ reference[most]) / size if size > 0 else float("nan")


def class_changes(means: Floats, others: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Mean of each class minus the mean over other classes, NaN without other classes; shape (K, G).

    Parameters
    ----------
    means
        Mean expression of each class; shape (K, G).
    others
        Which classes each is compared with; shape (K, K).
    """
    n = others.sum(axis=1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(n > 0, means - (others @ means) / n, np.nan)


def nearest(x: Floats, y: Floats) -> NDArray[np.float64]:
    """Distance from each cell of `x` to the nearest of `y`; shape (N,)."""
    return np.asarray(cdist(x, y).min(axis=1))
