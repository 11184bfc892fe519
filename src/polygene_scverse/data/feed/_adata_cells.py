"""Cells of an AnnData, read lazily."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from polygene_scverse._layout import TokenLayout
from polygene_scverse._validate import shorten, warn
from polygene_scverse.data.feed._table import CellTable
from polygene_scverse.data.read._expression import Expression
from polygene_scverse.data.read._phenotypes import encode_all
from polygene_scverse.data.read._tokens import Tokenizer
from polygene_scverse.data.read._totals import same_footing


@dataclass(frozen=True)
class AnnDataCells:
    """Some rows of a data set, in memory or backed. Labels are read from obs at creation, expression on demand.

    Parameters
    ----------
    expression
        Expression of the data set.
    tokenizer
        Tokenizer that matches the genes of the data set.
    layout
        Token ids and positions.
    ids
        Row numbers, in any order; shape (n_cells,).
    codes
        Phenotype codes, -1 where unknown; shape (n_cells, n_phenotypes).
    """

    expression: Expression
    tokenizer: Tokenizer
    layout: TokenLayout
    ids: NDArray[np.int64]
    codes: NDArray[np.int16]

    @classmethod
    def of(
        cls,
        expression: Expression,
        obs: pd.DataFrame,
        rows: NDArray[np.int64],
        layout: TokenLayout,
        columns: Mapping[str, Sequence[str]],
        edges: NDArray[np.float64],
        shares: Mapping[str, float] | None = None,
    ) -> AnnDataCells:
        """Match genes by name and encode labels.

        Parameters
        ----------
        expression
            Expression of the data set.
        obs
            obs table of the data set.
        rows
            Row numbers; shape (n_cells,).
        layout
            Token ids and positions.
        columns
            Obs column of each phenotype, and its categories.
        edges
            Lower edge of each bin.
        shares
            For new cells, share of the counts that each column had in training, see `same_footing`.

        Raises
        ------
        ValueError
            As for `Tokenizer.match`, and for `Expression.scale`.
        """
        scale, names, footing = expression.scale, expression.var_names, expression.footing
        tokenizer = Tokenizer.match(layout.genes, names, scale, edges, footing)
        if shares:
            tokenizer = replace(tokenizer, footing=same_footing(expression.sample, names, scale, footing, shares))
        labels = obs.loc[:, obs.columns.isin(list(columns))].iloc[rows]  # the other columns are not copied
        codes = encode_all(labels, columns)[0].astype(np.int16)  # codes of all cells are kept, so the type is small
        return cls(expression, tokenizer, layout, rows, codes)

    def __len__(self) -> int:
        return len(self.ids)

    def read(self, rows: NDArray[np.int64]) -> CellTable:
        """Read some of the cells, by position."""
        cells = self.tokenizer.read(self.expression, self.ids[rows])
        codes = self.codes[rows].astype(np.int64)
        return CellTable(cells, codes, self.ids[rows], self.layout, self.tokenizer.measured)

    def measured_in(self, rows: NDArray[np.integer]) -> NDArray[np.bool_]:
        """Whether each gene is measured, in any of the cells; shape (n_genes,)."""
        return self.tokenizer.measured

    def warn_unmeasured(self, outlook: str = "") -> None:
        """Warn about how genes were matched, unmeasured genes, and estimated total counts."""
        if note := self.expression.match_note:
            warn(note)
        footing = self.tokenizer.footing
        if footing is not None and footing.note:
            warn(footing.note)
        genes, measured = self.layout.genes, self.tokenizer.measured
        if absent := [gene for gene, there in zip(genes, measured, strict=True) if not there]:
            warn(
                f"{len(absent)} of the model's {len(genes)} genes are unmeasured in these data: {shorten(absent, 5)}. "
                f"They are treated as unmeasured, not as zero; {outlook or 'accuracy may be lower.'}"
            )

    def read_all(self) -> CellTable:
        """Read all cells."""
        return self.read(np.arange(len(self)))
