"""The gene decoder's part in closed form: frequencies of bins in the training cells."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from polygene_scverse.data._bin_values import fit_bin_values
from polygene_scverse.data._class_frequencies import count_bins, fit_class_frequencies
from polygene_scverse.data._statistics import category_counts
from polygene_scverse.data._table import draw_part

MOST_CELLS: Final = 20_000
"""Training cells that frequencies are taken from."""


class GeneDecoderMixin:
    """The gene decoder of the model."""

    def _fit_gene_decoder(self, train: Any, seed: int) -> None:
        """Count bins of the training cells, or of a draw of them; before the network is trained.

        Parameters
        ----------
        train
            The training cells.
        seed
            Seed of the draw.
        """
        decoder = self.module.gene_decoder
        if decoder is None:
            return
        table = draw_part(train, MOST_CELLS, seed)
        combinations, groups = np.unique(table.codes, axis=0, return_inverse=True)
        groups, cells, n_bins = groups.reshape(-1), table.cells, self.layout.n_bins
        x = sp.csr_matrix((cells.bins, cells.genes, cells.indptr), shape=(len(table), self.layout.n_genes)).tocsc()
        measured = table.measured_in(np.arange(len(table)))

        def count(genes: slice) -> NDArray[np.float64]:
            part = x[:, genes]
            return count_bins(part.indices, part.indptr, part.data, groups, n_bins, measured[..., genes])

        found = fit_class_frequencies(count, self.layout.n_genes, combinations, self.module.n_categories)
        decoder.set_frequencies(found, category_counts(table.codes, self.module.n_categories))
        rows = np.repeat(np.arange(len(table)), cells.lengths)
        entries = (rows, cells.genes, cells.bins, cells.values)
        values = fit_bin_values(*entries, table.codes, self.module.n_categories, self.layout.n_genes, n_bins)
        decoder.set_values(values.mean, values.effects)
