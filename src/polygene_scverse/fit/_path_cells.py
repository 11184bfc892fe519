"""Training cells to which the linear path and its stored moments are fitted.

Shapes: G genes.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from polygene_scverse.fit._earlier_cells import EarlierCells, KnownSums, known_sums
from polygene_scverse.fit._gene_scaler import GeneScaler, rescaled


@dataclass(frozen=True)
class PathCells:
    """Cells with their standardisation, and sums over the earlier cells that some of them replace.

    Parameters
    ----------
    x
        log1p of counts per 1,000; shape (n_cells, G).
    codes
        Category codes, -1 where unknown; shape (n_cells, n_phenotypes).
    n_categories
        Number of categories of each phenotype.
    measured
        Whether each gene is measured; shape (G,), or (n_cells, G) if it differs between cells.
    scaler
        Standardisation of expression.
    drawn
        Which cells were drawn to replace earlier ones; shape (n_cells,).
    earlier
        Moments of the earlier cells.
    """

    x: sp.csr_matrix
    codes: NDArray[np.integer]
    n_categories: Sequence[int]
    measured: NDArray[np.bool_]
    scaler: GeneScaler
    drawn: NDArray[np.bool_] | None = None
    earlier: EarlierCells | None = None

    @classmethod
    def of(
        cls,
        x: sp.csr_matrix,
        codes: NDArray[np.integer],
        n_categories: Sequence[int],
        measured: NDArray[np.bool_],
        drawn: NDArray[np.bool_] | None = None,
        earlier: EarlierCells | None = None,
    ) -> PathCells:
        """Standardise cells; `x` is log1p of counts per 10,000, the other arguments are those of the class."""
        x = rescaled(x)
        return cls(x, codes, n_categories, measured, GeneScaler.fit(x, measured), drawn, earlier)

    @property
    def own(self) -> NDArray[np.int64]:
        """Rows of the cells that were not drawn; shape (n,)."""
        return np.arange(self.x.shape[0]) if self.drawn is None else np.flatnonzero(~self.drawn)

    def standardised(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Standardised expression of some cells; shape (n_rows, G)."""
        measured = self.measured if self.measured.ndim == 1 else self.measured[rows]
        return self.scaler.standardise(self.x[rows], measured)

    @functools.cached_property
    def known(self) -> list[KnownSums | None]:
        """Sums over the earlier cells for each phenotype, None without earlier cells."""
        return known_sums(self.earlier, self.drawn, self.standardised, self.codes, self.n_categories, self.scaler)
