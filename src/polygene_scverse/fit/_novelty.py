"""How unlike the training cells a cell is.

Shapes: G genes, K principal components.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.special import log_softmax
from sklearn.decomposition import PCA

Floats = NDArray[np.float32]
N_PCS: Final = 30
MAX_CELLS: Final = 5_000
"""Training cells that principal components are fitted on."""
ADDED_VARIANCE: Final = 0.01
"""Added to the variance of a gene's residual: silent genes are not blown up without bound."""
ROUNDING: Final = 1e-5
"""Relative difference up to which two values count as equal."""


@dataclass(frozen=True)
class NoveltyReference:
    """What cells are compared with: principal components of training cells, and both signs of held-out cells.

    Parameters
    ----------
    mean, weights
        Mean of each gene, and the inverse of the variance that it has beside the components; shape (G,).
    components
        Principal components; shape (K, G).
    unexplained
        What the components do not explain of each held-out cell, ascending; shape (n_cells,).
    entropies
        For each phenotype the entropies of their probabilities, ascending; shape (n_cells,).
    combined
        For each phenotype the higher of the percentiles of both, ascending; shape (n_cells,).
    """

    mean: Floats
    weights: Floats
    components: Floats
    unexplained: Floats
    entropies: dict[str, Floats] = field(default_factory=dict)
    combined: dict[str, Floats] = field(default_factory=dict)

    def score(
        self, phenotype: str, logits: NDArray[np.floating], unexplained: NDArray[np.floating]
    ) -> NDArray[np.float64]:
        """Share of the held-out cells that look less novel; by both signs together, entropy alone, components alone.

        Parameters
        ----------
        phenotype
            Whose logits they are.
        logits
            Shape (n_cells, n_categories).
        unexplained
            As of `unexplained_expression`; shape (n_cells,).

        Returns
        -------
        Shape (n_cells, 3).
        """
        unsure = percentile(entropy(logits), self.entropies[phenotype])
        strange = percentile(unexplained, self.unexplained)
        return np.stack([percentile(np.maximum(unsure, strange), self.combined[phenotype]), unsure, strange], axis=1)


def fit_novelty(
    train: sp.csr_matrix, held_out: sp.csr_matrix, logits: Mapping[str, NDArray[np.floating]]
) -> NoveltyReference | None:
    """Fit principal components to training cells, and note both signs of held-out cells.

    Parameters
    ----------
    train, held_out
        Expression of training cells and of held-out cells; shape (n_cells, G) each.
    logits
        Of each phenotype, of the held-out cells; shape (n_cells, n_categories).

    Returns
    -------
    None if there are too few cells or genes.
    """
    n_pcs = min(N_PCS, train.shape[1] - 1, train.shape[0] // 3)
    if n_pcs < 1:
        return None
    pca = PCA(n_pcs, svd_solver="arpack", random_state=0).fit(train)
    shares = pca.singular_values_**2 / train.shape[0]  # variance along each component
    explained = shares @ pca.components_**2  # (G,)
    square = np.bincount(train.indices, train.data.astype(float) ** 2, train.shape[1]) / train.shape[0]
    left = np.maximum(square - pca.mean_**2 - explained, 0.0)
    mean, weights, components = (_single(a) for a in (pca.mean_, 1.0 / (left + ADDED_VARIANCE), pca.components_))
    strange = unexplained_expression(held_out, mean, weights, components)
    entropies = {name: entropy(values) for name, values in logits.items()}
    combined = {
        name: np.maximum(percentile(unsure, unsure), percentile(strange, strange)) for name, unsure in entropies.items()
    }
    return NoveltyReference(
        mean,
        weights,
        components,
        _single(np.sort(strange)),
        {name: _single(np.sort(values)) for name, values in entropies.items()},
        {name: _single(np.sort(values)) for name, values in combined.items()},
    )


def unexplained_expression(
    x: sp.csr_matrix,
    mean: Floats,
    weights: Floats,
    components: Floats,
    measured: NDArray[np.bool_] | None = None,
) -> NDArray[np.float64]:
    """Mean square over measured genes of what principal components do not explain of a cell; shape (n_cells,).

    Parameters
    ----------
    x
        Expression; shape (n_cells, G).
    mean, weights, components
        As of `NoveltyReference`.
    measured
        Whether each gene is measured; those that are not count as average and are not in the mean. Shape (G,).
    """
    average, basis = mean.astype(np.float64), components.astype(np.float64)
    measured = np.ones(len(mean), dtype=np.bool_) if measured is None else measured
    scale, centre = weights.astype(np.float64) * measured, average * measured
    scores = x @ basis.T - basis @ centre  # (n_cells, K)
    weighted = basis * scale  # (K, G)
    # the square of x - (mean + scores @ components), written out, so that nothing of the shape of x is made dense
    data = x.multiply(x) @ scale - 2 * (x @ (scale * average)) - 2 * ((x @ weighted.T) * scores).sum(axis=1)
    fit = scale @ average**2 + 2 * scores @ (weighted @ average) + ((scores @ (weighted @ basis.T)) * scores).sum(1)
    found: NDArray[np.float64] = (data + fit) / max(int(measured.sum()), 1)
    return found


def entropy(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """Entropy of the probabilities, in nats; unlike an energy it sees no constant in the logits. Shape (n_cells,)."""
    log_p = log_softmax(logits.astype(np.float64), axis=1)
    found: NDArray[np.float64] = -(np.exp(log_p) * log_p).sum(axis=1)
    return found


def percentile(values: NDArray[np.floating], known: NDArray[np.floating]) -> NDArray[np.float64]:
    """Share of known values that are lower, equal ones counted half, as if there were one more above and below.

    Values that differ by rounding alone are equal: a cell like a known one gets the same rank on every machine.
    """
    known = np.sort(np.asarray(known, dtype=np.float32))
    values = values.astype(np.float32)
    margin = ROUNDING * np.abs(values)
    lower, not_higher = np.searchsorted(known, values - margin), np.searchsorted(known, values + margin, side="right")
    found: NDArray[np.float64] = (0.5 * (lower + not_higher) + 0.5) / (len(known) + 1)
    return found


def _single(values: NDArray[np.floating]) -> Floats:
    """In single precision, as it is saved."""
    return np.array(values, dtype=np.float32, order="C")
