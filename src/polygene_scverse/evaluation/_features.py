"""Input of the baselines: the expression of the model's genes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData
from numpy.typing import NDArray

from polygene_scverse.data.read._binning import EVERY_VALUE
from polygene_scverse.data.read._expression import Expression
from polygene_scverse.data.read._tokens import Tokenizer
from polygene_scverse.model import Polygene


@dataclass(frozen=True)
class Features:
    """Expression of training or test cells.

    Parameters
    ----------
    x
        log1p of counts per 10,000 of the model's genes; shape (n_cells, n_genes).
    counts
        Raw counts of these genes, None if the data have none; shape (n_cells, n_genes).
    """

    x: NDArray[np.float32]
    counts: sp.csr_matrix | None

    def take(self, rows: NDArray[np.integer] | NDArray[np.bool_]) -> Features:
        """Return a subset of the cells."""
        return Features(self.x[rows], None if self.counts is None else self.counts[rows])


def read_features(model: Polygene, adata: AnnData, layer: str | None = None, use_raw: bool = False) -> Features:
    """Read the expression of the model's genes as the model does, but unbinned and dense."""
    expression, rows = Expression.of(adata, layer, use_raw).loaded(), np.arange(adata.n_obs)
    scale, names = expression.scale, model.gene_names(adata).names
    cells = Tokenizer.match(model.genes, names, scale, EVERY_VALUE, expression.footing).read(expression, rows)
    columns = names.get_indexer(pd.Index(model.genes))
    counts = expression.rows(rows)[:, columns] if scale.kind == "counts" else None
    return Features(cells.matrix(model.layout.n_genes).toarray(), counts)
