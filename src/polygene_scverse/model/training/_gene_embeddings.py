"""Initial gene embeddings: principal components of the training cells, and effects of categories."""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.decomposition import PCA

from polygene_scverse.data.feed._source import CellSource, draw_cells
from polygene_scverse.data.feed._table import CellTable
from polygene_scverse.fit._gene_scaler import GeneScaler, rescaled
from polygene_scverse.module import PolygeneModule
from polygene_scverse.module._gene_decoder import GeneDecoder

MAX_NUMBERS: Final = 2**24
"""Maximum size of the dense matrix of training cells to which the components are fitted: 134 MB."""
DEVIATIONS: Final = 5.0
"""Standard deviation of the initial embeddings, in units of that of the other initial weights."""
LARGEST: Final = 4.0
"""Standard deviations at which loadings are clipped."""


def init_gene_embeddings(module: PolygeneModule, train: CellSource, seed: int) -> None:
    """Replace up to three quarters of the random gene embeddings of an untrained network.

    Half of the hidden units start with the loadings of each gene on principal components of the training cells, and up
    to a quarter with the effects of categories on it. Genes that vary together then have similar embeddings from the
    start, and the network needs half as many steps, see benchmarks/results/budget.md.

    Parameters
    ----------
    module
        The network; effects are taken from its gene decoder, if it has one, and must have been fitted before.
    train
        The training cells.
    seed
        Random seed for the draw of cells and for the components.
    """
    layout, n_hidden = module.layout, module.config.n_hidden
    parts = [_loadings(draw_cells(train, MAX_NUMBERS // layout.n_genes, seed), n_hidden // 2, seed)]
    if module.gene_decoder is not None:
        parts.append(_effects(module.gene_decoder, n_hidden // 4))
    found = np.concatenate(parts, axis=1)  # (n_genes, n)
    found = ((found - found.mean(axis=0)) / np.maximum(found.std(axis=0), 1e-12)).clip(-LARGEST, LARGEST)
    first = layout.first_gene_position
    weights = module.encoder.embeddings.position.weight
    with torch.no_grad():
        rows = weights[first : first + layout.n_genes, : found.shape[1]]
        rows.copy_(torch.from_numpy(DEVIATIONS * module.config.init_std * found))


def _loadings(table: CellTable, n_components: int, seed: int) -> NDArray[np.float64]:
    """Loadings of standardised genes on leading principal components; shape (n_genes, n), n = 0 with too few cells."""
    n_genes = table.layout.n_genes
    x, measured = table.cells.matrix(n_genes), table.measured_in(np.arange(len(table)))
    n = min(n_components, n_genes - 1, len(table) // 3)
    if n < 1 or not x.nnz:
        return np.empty((n_genes, 0))
    x = rescaled(x)
    standardised = GeneScaler.fit(x, measured).standardise(x, measured)  # (n_cells, n_genes)
    pca = PCA(n, svd_solver="randomized", random_state=seed).fit(standardised)
    return pca.components_.T.astype(np.float64)


def _effects(decoder: GeneDecoder, n_directions: int) -> NDArray[np.float64]:
    """Leading directions of the effects of categories on the log odds that a gene is expressed; (n_genes, n)."""
    weights = decoder.bias[:, 1:].double().softmax(dim=1)  # (n_genes, n_bins - 1)
    effects = (decoder.odds[:, 1:].double().log() * weights[..., None]).sum(dim=1)  # (n_genes, n_categories)
    left, sizes, _ = torch.linalg.svd(effects - effects.mean(dim=0), full_matrices=False)
    kept = sizes[:n_directions] > 1e-6 * sizes.max().clamp(min=1e-12)
    return left[:, :n_directions][:, kept].numpy(force=True)
