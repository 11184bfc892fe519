"""Cells of lower sequencing depth than the training cells: how much less certain the linear path is about them."""

from __future__ import annotations

from typing import Final

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

from polygene_scverse._constants import TARGET_SUM
from polygene_scverse.fit._kinds import cell_counts

SHARES: Final = (0.5, 0.25, 0.1)
"""Shares of their counts that held-out cells keep in trials."""
SHALLOW: Final = 0.05
"""Quantile of the number of expressed genes of the training cells below which a cell is shallow."""
STEEPEST: Final = 1.0
"""Maximum slope: certainty in proportion to the number of expressed genes."""


def usual_genes(expressed: sp.csr_matrix, measured: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Contribution of each gene to the number of expressed genes below which a cell is shallow; shape (G,).

    It is the share of the training cells that express the gene, times a factor that is the same for all genes.

    Parameters
    ----------
    expressed
        Expression of training cells; shape (n_cells, G).
    measured
        Whether each gene is measured; shape (G,), or (n_cells, G) if it differs between cells.
    """
    of_cells = np.broadcast_to(measured, expressed.shape)
    frequencies = expressed.getnnz(axis=0) / np.maximum(of_cells.sum(axis=0), 1)
    relative = expressed.getnnz(axis=1) / np.maximum(of_cells @ frequencies, 1e-8)
    found: NDArray[np.float32] = (np.quantile(relative, SHALLOW) * frequencies).astype(np.float32)
    return found


def thin(
    indptr: NDArray[np.integer],
    values: NDArray[np.floating],
    depths: NDArray[np.floating],
    share: float,
    random: np.random.Generator,
) -> NDArray[np.float32]:
    """Expression of the same cells if each of their counts is kept with probability `share`; shape of `values`.

    Parameters
    ----------
    indptr, values
        Expression (log1p of counts per 10,000), in CSR order.
    depths
        Total counts of each cell; shape (n_cells,).
    share
        Probability.
    random
        Source of the draws.
    """
    kept = random.binomial(cell_counts(indptr, values, depths).astype(np.int64), share)
    return np.log1p(kept / (share * np.repeat(depths, np.diff(indptr))) * TARGET_SUM).astype(np.float32)


def fit_slope(
    logits: NDArray[np.floating],
    prior: NDArray[np.floating],
    depths: NDArray[np.floating],
    codes: NDArray[np.integer],
    temperature: float,
) -> float:
    """Fit the exponent of the relative depth by which the logits of shallow cells are multiplied.

    Parameters
    ----------
    logits
        Logits of the linear path; shape (n_cells, n_categories).
    prior
        Part of the logits that does not depend on the cell; shape (n_categories,).
    depths
        Number of expressed genes of each cell relative to that below which a cell is shallow, at most 1; (n_cells,).
    codes
        True categories; shape (n_cells,).
    temperature
        Temperature of the logits of cells that are not shallow.

    Returns
    -------
    Slope between 0 and `STEEPEST` with the highest likelihood, with a normal prior around 0 with standard deviation 1.
    """
    evidence, cells = logits.astype(np.float64) - prior, np.arange(len(codes))

    def loss(slope: float) -> float:
        scaled = (prior + evidence * depths[:, None] ** slope) / temperature
        return float((logsumexp(scaled, axis=1) - scaled[cells, codes]).sum() + 0.5 * slope**2)

    return float(minimize_scalar(loss, bounds=(0.0, STEEPEST), method="bounded").x)
