"""Mean and variance of each gene, accumulated over blocks of cells, and the gene ranks derived from them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import NDArray

from polygene_scverse._constants import RANK
from polygene_scverse.data.read._scale import Scale
from polygene_scverse.data.read._totals import Footing

N_MEAN_BINS = 20
"""Number of bins of mean expression within which dispersions are compared, as in scanpy."""


class DispersionSums:
    """Sums over cells from which genes are ranked; the cells may differ in their genes.

    Parameters
    ----------
    n_genes
        Number of genes.
    """

    def __init__(self, n_genes: int) -> None:
        self.n_cells: NDArray[np.int64] = np.zeros(n_genes, dtype=np.int64)
        self.n_expressed = np.zeros(n_genes, dtype=np.int64)
        self.sums = np.zeros(n_genes)
        self.squares = np.zeros(n_genes)

    def add(self, x: sp.csr_matrix, columns: NDArray[np.integer], scale: Scale, footing: Footing | None = None) -> None:
        """Add the cells of a block.

        Parameters
        ----------
        x
            Expression without stored zeros; shape (n_cells, n_vars).
        columns
            Gene index of each column; shape (n_vars,).
        scale
            Scale of `x`.
        footing
            Columns that add up to the total count of a cell; all by default.
        """
        values = scale.to_log1p(x, None if footing is None else footing.totals(x, scale))
        values = np.expm1(values).astype(np.float64)  # counts per 10,000
        self.n_cells[columns] += x.shape[0]
        for sums, weights in ((self.n_expressed, None), (self.sums, values), (self.squares, values**2)):
            sums[columns] += np.bincount(x.indices, weights=weights, minlength=x.shape[1]).astype(sums.dtype)

    def __iadd__(self, other: DispersionSums) -> DispersionSums:
        self.n_cells += other.n_cells
        self.n_expressed += other.n_expressed
        self.sums += other.sums
        self.squares += other.squares
        return self

    def rank(self, var_names: pd.Index) -> pd.Series:
        """Rank of each gene by normalised dispersion, 0 for the most variable.

        Mean and variance of a gene are over the cells that have it. All cells are used, whereas `rank_genes` draws
        50,000; with fewer cells the two agree, as scanpy's ``seurat`` flavour needs mean and variance only.

        Parameters
        ----------
        var_names
            Gene names; shape (n_genes,).

        Returns
        -------
        Ranks by gene, as float; NaN for genes that no cell expresses.

        References
        ----------
        Satija et al., Nature Biotechnology 2015, doi:10.1038/nbt.3192, as in
        :func:`scanpy.pp.highly_variable_genes` with ``flavor="seurat"``.
        """
        used = np.flatnonzero(self.n_expressed > 0)
        n = self.n_cells[used]
        mean = self.sums[used] / n
        variance = (self.squares[used] - self.sums[used] * mean) / np.maximum(n - 1, 1)
        variance[variance <= mean**2 * 1e-12] = np.nan  # genes with the same value in every cell
        table = pd.DataFrame({"mean": np.log1p(mean), "dispersion": np.log(variance / mean)}, index=var_names[used])
        normalized = _compare_with_others(table).astype(np.float32)  # single precision keeps the ties of scanpy's table
        order = normalized.fillna(-np.inf).sort_values(ascending=False, kind="stable").index
        return pd.Series(np.arange(len(order), dtype=float), index=order).reindex(var_names).rename(RANK)


def _compare_with_others(table: pd.DataFrame) -> pd.Series:
    """Z-score of the dispersion among genes with a similar mean; 1 for a gene that is alone in its bin."""
    groups = table.groupby(pd.cut(table["mean"], bins=N_MEAN_BINS), observed=True)["dispersion"]
    average, deviation = groups.transform("mean"), groups.transform("std")
    alone = deviation.isna()
    return (table["dispersion"] - average.where(~alone, 0.0)) / deviation.where(~alone, average)
