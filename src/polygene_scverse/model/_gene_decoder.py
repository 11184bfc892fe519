"""The gene decoder's part in closed form: frequencies of bins in the training cells."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from polygene_scverse.data._class_frequencies import count_bins, fit_class_frequencies
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
        groups = groups.reshape(-1)
        cells, layout = table.cells, self.layout
        counts = count_bins(
            cells.indptr, cells.genes, cells.bins, groups, len(combinations), layout.n_genes, layout.n_bins,
            table.measured_in(np.arange(len(table))),
        )
        found = fit_class_frequencies(counts, combinations, self.module.n_categories)
        known = [codes[codes >= 0] for codes in table.codes.T]
        numbers = [np.bincount(c, minlength=n) + 1e-3 for c, n in zip(known, self.module.n_categories, strict=True)]
        shares = np.concatenate([n / n.sum() for n in numbers]).astype(np.float32)
        decoder.set_frequencies(found.bias, found.effects, found.pairs, found.interactions, shares)
