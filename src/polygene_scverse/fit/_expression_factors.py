"""Factor model of gene expression, which predicts the expression of a cell from all its measured genes.

Shapes: N cells, G genes, K factors, M genes that are predicted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from sklearn.decomposition import PCA

Floats = NDArray[np.float32]
N_FACTORS: Final = 20
"""Number of factors, see benchmarks/results/impute.md."""
ADDED: Final = 0.1
"""Share of the mean residual variance that is added to that of each gene, to limit the influence of rare genes."""
MIN_CELLS: Final = 50
"""Minimum number of cells to fit the factors."""


@dataclass(frozen=True)
class Factors:
    """Gaussian factors of expression on one scale.

    Parameters
    ----------
    mean
        Mean of each gene; shape (G,).
    components
        Directions of the factors; shape (K, G).
    variances
        Variance of each factor; shape (K,).
    residual
        Residual variance of each gene; shape (G,).
    """

    mean: Floats
    components: Floats
    variances: Floats
    residual: Floats

    def expect(
        self, x: sp.csr_matrix, asked: NDArray[np.integer], measured: NDArray[np.bool_]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Posterior mean of genes given all measured genes, including themselves, and the posterior variance.

        Parameters
        ----------
        x
            Expression on the scale of the factors, 0 where unmeasured; shape (N, G).
        asked
            Gene slots to predict; shape (M,).
        measured
            Whether each gene is measured; shape (G,).

        Returns
        -------
        Means, at least 0, shape (N, M), and variances, shape (M,).

        References
        ----------
        Bartholomew, Knott and Moustaki, Latent Variable Models and Factor Analysis, 2011, section 3.7: regression
        scores.
        """
        basis, mean, left = (a.astype(np.float64) for a in (self.components, self.mean, self.residual))
        weights = measured / np.maximum(left + ADDED * left.mean(), 1e-12)
        precision = np.diag(1.0 / self.variances.astype(np.float64)) + (basis * weights) @ basis.T
        covariance = np.linalg.inv(precision)  # (K, K)
        scores = (x @ (basis * weights).T - (basis * weights) @ mean) @ covariance  # (N, K)
        found = np.maximum(scores @ basis[:, asked] + mean[asked], 0.0)
        spread: NDArray[np.float64] = left[asked] + ((covariance @ basis[:, asked]) * basis[:, asked]).sum(axis=0)
        return found, spread


@dataclass(frozen=True)
class ExpressionFactors:
    """Factors of log1p of counts per 10,000, and of the square root of counts per 10,000."""

    log: Factors
    root: Factors

    @classmethod
    def from_dict(cls, plain: Mapping[str, Mapping[str, Any]]) -> ExpressionFactors:
        """Create the factors from their fields; arrays may have been converted to tensors or lists."""
        return cls(**{n: Factors(**{k: np.asarray(v, np.float32) for k, v in f.items()}) for n, f in plain.items()})

    def expect(self, x: sp.csr_matrix, asked: NDArray[np.integer], measured: NDArray[np.bool_], *, log: bool) -> Floats:
        """Expected log1p of counts per 10,000, or expected counts per 10,000 (mean square of the roots); (N, M).

        Parameters
        ----------
        x
            log1p of counts per 10,000; shape (N, G).
        asked, measured
            As for `Factors.expect`.
        log
            Whether to return expected log1p of counts; otherwise expected counts.
        """
        if log:
            return self.log.expect(x, asked, measured)[0].astype(np.float32)
        mean, variance = self.root.expect(_roots(x), asked, measured)
        return (mean**2 + variance).astype(np.float32)


def fit_expression_factors(x: sp.csr_matrix) -> ExpressionFactors | None:
    """Fit the factors on both scales to training cells; None if there are too few cells.

    Parameters
    ----------
    x
        log1p of counts per 10,000; shape (N, G).
    """
    n_factors = min(N_FACTORS, x.shape[1] - 1)
    if x.shape[0] < MIN_CELLS or n_factors < 1 or not x.nnz:
        return None
    return ExpressionFactors(_fit(x, n_factors), _fit(_roots(x), n_factors))


def _fit(x: sp.csr_matrix, n_factors: int) -> Factors:
    pca = PCA(n_factors, svd_solver="arpack", random_state=0).fit(x.astype(np.float64))
    variances = pca.singular_values_**2 / x.shape[0]
    square = np.asarray(x.multiply(x).mean(axis=0)).ravel()
    residual = np.maximum(square - pca.mean_**2 - variances @ pca.components_**2, 0.0)
    keep = variances > 1e-9
    arrays = (pca.mean_, pca.components_[keep], variances[keep], residual)
    return Factors(*(np.array(a, dtype=np.float32, order="C") for a in arrays))


def _roots(x: sp.csr_matrix) -> sp.csr_matrix:
    """Square roots of counts per 10,000."""
    return sp.csr_matrix((np.sqrt(np.expm1(x.data.astype(np.float64))), x.indices, x.indptr), x.shape)
