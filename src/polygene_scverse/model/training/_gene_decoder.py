"""Closed-form part of the gene decoder: bin frequencies in the training cells."""

from __future__ import annotations

from typing import Final

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from polygene_scverse.data.feed._source import CellSource, draw_cells
from polygene_scverse.fit._bin_values import fit_bin_values
from polygene_scverse.fit._category_counts import category_counts
from polygene_scverse.fit._class_frequencies import count_bins, fit_class_frequencies
from polygene_scverse.module import PolygeneModule

MAX_CELLS: Final = 20_000
"""Maximum number of training cells from which frequencies are computed."""


def fit_gene_decoder(module: PolygeneModule, train: CellSource, seed: int) -> None:
    """Count the bins of the training cells, or of a sample of them, before the network is trained.

    Parameters
    ----------
    module
        The network; nothing is done if it has no gene decoder.
    train
        The training cells.
    seed
        Seed of the sample.
    """
    decoder, layout = module.gene_decoder, module.layout
    if decoder is None:
        return
    table = draw_cells(train, MAX_CELLS, seed)
    combinations, groups = np.unique(table.codes, axis=0, return_inverse=True)
    groups, cells = groups.reshape(-1), table.cells
    x = sp.csr_matrix((cells.bins, cells.genes, cells.indptr), shape=(len(table), layout.n_genes)).tocsc()
    measured = table.measured_in(np.arange(len(table)))

    def count(genes: slice) -> NDArray[np.float64]:
        part = x[:, genes]
        return count_bins(part.indices, part.indptr, part.data, groups, layout.n_bins, measured[..., genes])

    found = fit_class_frequencies(count, layout.n_genes, combinations, module.n_categories)
    decoder.set_frequencies(found, np.concatenate(category_counts(table.codes, module.n_categories)))
    entries = (cells.rows, cells.genes, cells.bins, cells.values)
    values = fit_bin_values(*entries, table.codes, module.n_categories, layout.n_genes, layout.n_bins)
    decoder.set_values(values.mean, values.effects)
