"""Conversion of expression to tokens: a ragged table with one entry per expressed gene of the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import NDArray

from polygene_scverse._validate import shorten
from polygene_scverse.data.read._binning import digitize
from polygene_scverse.data.read._expression import Expression
from polygene_scverse.data.read._scale import Scale
from polygene_scverse.data.read._totals import Footing


@dataclass(frozen=True)
class Cells:
    """Expressed genes of some cells in CSR layout: entries are sorted by cell, then by gene slot.

    Parameters
    ----------
    indptr
        Start of each cell; shape (n_cells + 1,).
    genes
        Gene slot of each entry, 0 … n_genes - 1.
    bins
        Expression bin of each entry, never 0.
    values
        Expression of each entry, log1p of counts per 10,000.
    """

    indptr: NDArray[np.int64]
    genes: NDArray[np.int32]
    bins: NDArray[np.int16]
    values: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.indptr) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Number of expressed genes of each cell; shape (n_cells,)."""
        return np.diff(self.indptr)

    @property
    def rows(self) -> NDArray[np.int64]:
        """Cell of each entry; shape (n_entries,)."""
        return np.repeat(np.arange(len(self)), self.lengths)

    def take(self, rows: NDArray[np.integer]) -> Cells:
        """Select some cells, in the requested order."""
        lengths = self.lengths[rows]
        indptr = np.concatenate([[0], np.cumsum(lengths)])
        at = np.arange(indptr[-1]) + np.repeat(self.indptr[rows] - indptr[:-1], lengths)
        return Cells(indptr, self.genes[at], self.bins[at], self.values[at])

    def matrix(self, n_genes: int) -> sp.csr_matrix:
        """Expression as a sparse matrix; shape (n_cells, n_genes)."""
        return sp.csr_matrix((self.values, self.genes, self.indptr), shape=(len(self), n_genes))

    def rebin(self, edges: NDArray[np.float64]) -> Cells:
        """Assign expression to other bins; entries that fall into bin 0 are removed."""
        bins = digitize(self.values, edges)
        return Cells(self.indptr, self.genes, bins.astype(np.int16), self.values).keep(bins > 0)

    def keep(self, kept: NDArray[np.bool_]) -> Cells:
        """Remove entries; `kept` has shape (n_entries,)."""
        indptr = np.concatenate([[0], np.cumsum(kept)])[self.indptr]
        return Cells(indptr, self.genes[kept], self.bins[kept], self.values[kept])

    def with_genes(self, genes: NDArray[np.integer], bins: NDArray[np.integer], values: NDArray[np.floating]) -> Cells:
        """Set some genes to one bin and value in every cell; bin 0 removes a gene.

        Parameters
        ----------
        genes
            Gene slots, each once; shape (n_set,).
        bins, values
            Bin and expression of each; shape (n_set,).
        """
        n, keep = len(self), ~np.isin(self.genes, genes)
        rows, on = self.rows[keep], bins > 0
        rows = np.concatenate([rows, np.repeat(np.arange(n), on.sum())])
        columns = [
            np.concatenate([old[keep], np.tile(new[on], n)])
            for old, new in ((self.genes, genes), (self.bins, bins), (self.values, values))
        ]
        order = np.lexsort((columns[0], rows))
        indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=n))]).astype(np.int64)
        slots, new_bins, expression = (column[order] for column in columns)
        return Cells(indptr, slots.astype(np.int32), new_bins.astype(np.int16), expression.astype(np.float32))

    @classmethod
    def concatenate(cls, parts: Sequence[Cells]) -> Cells:
        """Concatenate several tables of cells."""
        lengths = np.concatenate([np.zeros(0, dtype=np.int64), *(p.lengths for p in parts)])
        return cls(
            np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
            *(
                np.concatenate([np.zeros(0, dtype=t), *(getattr(p, name) for p in parts)])
                for name, t in (("genes", np.int32), ("bins", np.int16), ("values", np.float32))
            ),
        )


@dataclass(frozen=True)
class Tokenizer:
    """Converts rows of one data set to tokens.

    Parameters
    ----------
    slots
        Gene slot of each column of the data, -1 where the model does not have the gene; shape (n_vars,).
    measured
        Whether the data have the gene of each slot; shape (n_genes,).
    scale
        Scale of the data.
    edges
        Lower edge of each bin; shape (n_bins,).
    footing
        Columns that add up to the total count of a cell; None to follow the scale.
    """

    slots: NDArray[np.int32]
    measured: NDArray[np.bool_]
    scale: Scale
    edges: NDArray[np.float64]
    footing: Footing | None = None

    @classmethod
    def match(
        cls,
        genes: Sequence[str],
        var_names: pd.Index,
        scale: Scale,
        edges: NDArray[np.float64],
        footing: Footing | None = None,
    ) -> Tokenizer:
        """Match columns to gene slots by name.

        Raises
        ------
        ValueError
            If no gene of the model is among `var_names`.
        """
        index = pd.Index(genes)
        slots = index.get_indexer(var_names).astype(np.int32)
        measured = np.zeros(len(index), dtype=bool)
        measured[slots[slots >= 0]] = True
        if not measured.any():
            raise ValueError(
                f"`adata`: none of its {len(var_names)} genes, e.g. {shorten(var_names, 3)}, is among the "
                f"{len(index)} genes of the model, e.g. {shorten(genes, 3)}. Genes are matched by name, or by Ensembl "
                "id and symbol where GENCODE has both: set adata.var_names to the same kind of identifier."
            )
        return cls(slots, measured, scale, edges, footing)

    def __call__(self, x: sp.csr_matrix) -> Cells:
        """Tokens of rows; `x` must have sorted indices and no stored zeros, shape (n_cells, n_vars)."""
        row = np.repeat(np.arange(x.shape[0]), np.diff(x.indptr))
        slot = self.slots[x.indices]
        keep = slot >= 0
        totals = None if self.footing is None else self.footing.totals(x, self.scale)
        values = self.scale.to_log1p(x, totals, keep)  # totals include genes that the model does not have
        row, slot = row[keep], slot[keep]
        bins = digitize(values, self.edges)
        if not bins.all():
            expressed = bins > 0
            row, slot, values, bins = row[expressed], slot[expressed], values[expressed], bins[expressed]
        order = np.argsort(row * len(self.measured) + slot)
        indptr = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=x.shape[0]))])
        return Cells(indptr, slot[order], bins[order].astype(np.int16), values[order])

    def read(self, expression: Expression, rows: NDArray[np.integer]) -> Cells:
        """Tokens of some rows of a data set, read in blocks."""
        return Cells.concatenate([self(block) for block in expression.blocks(rows)])
