"""Similarity of genes."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import cholesky, solve_triangular
from sklearn.covariance import ledoit_wolf_shrinkage, shrunk_covariance
from sklearn.metrics import euclidean_distances

Metric = Literal["cosine", "mahalanobis"]
LEAST_SHRINKAGE = 1e-3
"""Lower limit of the shrinkage; the estimate for two states is 0, with which the covariance is singular."""


def gene_interactions(
    states: ArrayLike, *, metric: Metric = "cosine", covariance: ArrayLike | None = None
) -> NDArray[np.float64]:
    """Compute the similarity or distance of the states of all pairs of genes.

    Parameters
    ----------
    states
        State of each gene; shape (n_genes, n_hidden).
    metric
        ``"cosine"`` similarity (-1 to 1) or ``"mahalanobis"`` distance (0 or larger).
    covariance
        Covariance for Mahalanobis distances, of full rank; shape (n_hidden, n_hidden). By default
        `gene_covariance` of `states`.

    Returns
    -------
    Symmetric matrix; shape (n_genes, n_genes).

    Raises
    ------
    ValueError
        If `metric` is unknown.

    Examples
    --------
    >>> gene_interactions([[1.0, 0.0], [0.0, 2.0]]).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    x = np.asarray(states, dtype=np.float64)
    if metric == "cosine":
        x = x / np.linalg.norm(x, axis=1, keepdims=True).clip(min=np.finfo(np.float64).tiny)
        return (x @ x.T).clip(-1.0, 1.0)  # (n_genes, n_genes)
    if metric != "mahalanobis":
        raise ValueError(f"`metric`: found {metric!r}, but it must be 'cosine' or 'mahalanobis'. Pass one of them.")
    if covariance is None:
        covariance = gene_covariance(x)
    root = cholesky(np.asarray(covariance, dtype=np.float64), lower=True)
    return euclidean_distances(solve_triangular(root, x.T, lower=True).T)  # (n_genes, n_genes)


def gene_covariance(states: ArrayLike) -> NDArray[np.float64]:
    """Covariance of states over genes, shrunk towards a multiple of the identity, so that it can be inverted.

    States centred by layer normalisation lie in a hyperplane, and there may be fewer genes than hidden units; in both
    cases the sample covariance is singular.

    Parameters
    ----------
    states
        State of each gene; shape (n_genes, n_hidden).

    Returns
    -------
    Covariance, or the identity if there are fewer than two different states; shape (n_hidden, n_hidden).

    References
    ----------
    Ledoit and Wolf: A well-conditioned estimator for large-dimensional covariance matrices. Journal of Multivariate
    Analysis 88 (2004).
    """
    x = np.asarray(states, dtype=np.float64)
    if len(x) < 2 or not np.ptp(x, axis=0).any():
        return np.eye(x.shape[1])
    shrinkage = max(ledoit_wolf_shrinkage(x), LEAST_SHRINKAGE)
    return shrunk_covariance(np.cov(x, rowvar=False, bias=True), shrinkage=shrinkage)
