"""Queries: what is shown to the network and what it predicts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from polygene_scverse._validate import check_fraction
from polygene_scverse.data.feed._batch import make_batch
from polygene_scverse.data.feed._loader import as_tensors, drawn_batch
from polygene_scverse.data.feed._masking import MaskingRates, ask
from polygene_scverse.data.feed._table import CellTable


@dataclass(frozen=True)
class RandomHiding:
    """Random masking of tokens to predict; a cell has the same masked tokens in any batch.

    Parameters
    ----------
    rates
        Masking rates.
    seed
        Seed of the draws.
    shown
        Slots of phenotypes that are nevertheless shown as recorded, in cells where they are known.
    share
        Share of the genes that are not predicted to hide as well, instead of the gene dropout in `rates`. It does not
        affect which tokens are predicted.
    """

    rates: MaskingRates
    seed: int = 0
    shown: tuple[int, ...] = ()
    share: float | None = None

    def __post_init__(self) -> None:
        if self.share is not None:
            check_fraction(self.share, "share")


@dataclass(frozen=True)
class Query:
    """One query to the network. By default every expressed gene is shown and every phenotype is predicted.

    Parameters
    ----------
    shown
        Slots of the phenotypes that are shown as recorded, in cells where they are known.
    phenotypes
        Phenotypes that are set in every cell, whatever is recorded: pairs of slot and category code.
    removed
        Genes that are removed, as if they were unmeasured.
    genes
        Genes that are set in every cell: triples of gene, bin and expression (log1p of counts per 10,000).
    asked
        Genes whose bin is predicted; the input does not reveal whether they are expressed.
    hidden
        Genes that are hidden as well but not predicted.
    hiding
        Random masking of genes and phenotypes, instead of the other arguments.
    """

    shown: tuple[int, ...] = ()
    phenotypes: tuple[tuple[int, int], ...] = ()
    removed: tuple[int, ...] = ()
    genes: tuple[tuple[int, int, float], ...] = ()
    asked: tuple[int, ...] = ()
    hidden: tuple[int, ...] = ()
    hiding: RandomHiding | None = None

    def __post_init__(self) -> None:
        others = (self.shown, self.phenotypes, self.removed, self.genes, self.asked, self.hidden)
        if self.hiding is not None and any(others):
            raise ValueError(
                "`hiding`: tokens that are hidden at random cannot be shown, set or predicted as well. To show "
                "phenotypes, use RandomHiding(shown=...)."
            )

    def batch(self, table: CellTable, rows: NDArray[np.integer]) -> dict[str, torch.Tensor]:
        """Arrays of a batch, see `make_batch`, and ``measured``, shape (n_genes,) or (n_cells, n_genes).

        Parameters
        ----------
        table
            The cells.
        rows
            Rows of the batch.
        """
        part = table.take(rows)
        if self.hiding is not None:
            draws: dict[str, Any] = {"seed": self.hiding.seed, "epoch": 0}
            draws |= {"shown": self.hiding.shown, "hidden_share": self.hiding.share}
            drawn = drawn_batch(part, table.measured, table.layout, self.hiding.rates, **draws)
            return {**drawn, **as_tensors({"measured": table.measured_in(rows)})}
        cells, codes, measured = part.cells, part.codes, table.measured_in(rows)
        if self.removed or self.genes:
            gone = np.array(self.removed, dtype=np.int64)
            cells = cells.with_genes(gone, np.zeros_like(gone), np.zeros(len(gone)))
            genes, bins, values = np.array(self.genes, dtype=np.float64).reshape(-1, 3).T
            cells = cells.with_genes(genes.astype(np.int64), bins.astype(np.int64), values)
            measured = measured.copy()
            measured[..., gone] = False
            measured[..., genes.astype(np.int64)] = True
        hidden = np.ones(codes.shape, dtype=bool)
        hidden[:, list(self.shown)] = codes[:, list(self.shown)] < 0
        if self.phenotypes:
            slots, categories = (list(column) for column in zip(*self.phenotypes, strict=True))
            codes, hidden[:, slots] = codes.copy(), False
            codes[:, slots] = categories
        asked, silenced = np.array(self.asked, dtype=np.int64), np.array(self.hidden, dtype=np.int64)
        if len(silenced):
            cells = cells.with_genes(silenced, np.zeros_like(silenced), np.zeros(len(silenced)))
        unknown = np.union1d(asked, silenced)
        existing = measured.copy()
        existing[..., asked] = True  # an unmeasured gene that is predicted counts as hidden
        n_existing = np.broadcast_to(existing, (len(cells), table.layout.n_genes)).sum(axis=1)
        n_unknown = np.broadcast_to(existing[..., unknown], (len(cells), len(unknown))).sum(axis=1)
        shown_share = (1.0 - n_unknown / np.maximum(n_existing, 1)).astype(np.float32)
        masking = ask(cells, asked, hidden, shown_share)
        if len(unknown):  # for the linear path these genes are unmeasured, not unexpressed
            measured = measured.copy()
            measured[..., unknown] = False
        return as_tensors({**make_batch(cells, masking, table.layout, codes), "measured": measured, "rows": part.ids})
