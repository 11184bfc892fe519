"""Expression as used by the linear path: rescaled, clipped, centred and scaled.

Shapes: G genes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from polygene_scverse._constants import LINEAR_SUM, TARGET_SUM

MAX_DEVIATIONS: Final = 5.0
"""Number of standard deviations above the mean at which the expression of a gene is clipped."""
ADDED_DEVIATION: Final = 0.2
"""Added to standard deviations, so that genes with little variation are not inflated."""


def rescale(values: NDArray[np.floating]) -> NDArray[np.floating]:
    """Convert log1p of counts per `TARGET_SUM` to log1p of counts per `LINEAR_SUM`."""
    rescaled: NDArray[np.floating] = np.log1p(np.expm1(values) * (LINEAR_SUM / TARGET_SUM))
    return rescaled


def rescaled(x: sp.csr_matrix) -> sp.csr_matrix:
    """As `rescale`, for a matrix; same shape."""
    return sp.csr_matrix((rescale(x.data), x.indices, x.indptr), shape=x.shape)


def capped(values: NDArray[np.floating], cap: NDArray[np.floating]) -> NDArray[np.float64]:
    """Rescaled and clipped expression; `cap` is the upper limit for the gene of each value, in the same shape."""
    found: NDArray[np.float64] = np.minimum(rescale(values.astype(np.float64)), cap)
    return found


@dataclass(frozen=True)
class GeneScaler:
    """Standardisation of each gene.

    Parameters
    ----------
    cap
        Value at which expression is clipped; shape (G,).
    centre
        Mean of the clipped expression; shape (G,).
    deviation
        Standard deviation before clipping, plus `ADDED_DEVIATION`; shape (G,).
    """

    cap: NDArray[np.float64]
    centre: NDArray[np.float64]
    deviation: NDArray[np.float64]

    @classmethod
    def fit(cls, x: sp.csr_matrix, measured: NDArray[np.bool_]) -> GeneScaler:
        """Fit the standardisation to some cells.

        Parameters
        ----------
        x
            Expression; shape (n_cells, G).
        measured
            Whether each gene is measured; shape (G,), or (n_cells, G) if it differs between cells.
        """
        n = np.maximum(np.broadcast_to(measured, x.shape).sum(axis=0), 1)
        values = x.data.astype(np.float64)
        mean = np.bincount(x.indices, values, x.shape[1]) / n
        square = np.bincount(x.indices, values**2, x.shape[1]) / n
        deviation = np.sqrt(np.maximum(square - mean**2, 0.0)) + ADDED_DEVIATION
        cap = mean + MAX_DEVIATIONS * deviation
        centre = np.bincount(x.indices, np.minimum(values, cap[x.indices]), x.shape[1]) / n
        return cls(cap, centre, deviation)

    def standardise(self, x: sp.csr_matrix, measured: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Clipped, centred and scaled expression, 0 where a gene is unmeasured; dense, so pass few cells at a time.

        Parameters
        ----------
        x
            Expression; shape (n_cells, G).
        measured
            As in `fit`.
        """
        dense = np.minimum(x.toarray(), self.cap)  # (n_cells, G)
        dense -= self.centre
        dense /= self.deviation
        dense *= measured
        found: NDArray[np.float32] = dense.astype(np.float32)
        return found
