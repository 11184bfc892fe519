"""States of genes in the cells of a context: the mean over the cells that express them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from anndata import AnnData
from mudata import MuData
from numpy.typing import NDArray
from torch import Tensor

from polygene_scverse._validate import check_columns, shorten
from polygene_scverse.data.read._phenotypes import candidates, encode, ordered_labels
from polygene_scverse.model._inference import INPUTS, Batch, _run, evaluating

ALL = "all"
"""Name of the one context where cells are not grouped."""
MOST_CONTEXTS = 500


@dataclass(frozen=True)
class GeneStates:
    """Mean states of genes after the last block, by context.

    Parameters
    ----------
    contexts
        Names of the contexts.
    genes
        Genes of the model, most variable first.
    means
        Mean state over the cells of a context that express the gene, NaN where none does; shape
        (n_contexts, n_genes, n_hidden).
    n_cells
        Number of these cells; shape (n_contexts, n_genes).
    """

    contexts: list[str]
    genes: list[str]
    means: NDArray[np.float32]
    n_cells: NDArray[np.int64]


class GeneStatesMixin:
    """`get_gene_states` of the model."""

    def get_gene_states(
        self,
        adata: AnnData | MuData | None = None,
        *,
        groupby: str | None = None,
        indices: Sequence[int] | None = None,
        given: str | Sequence[str] | None = None,
        batch_size: int = 64,
    ) -> GeneStates:
        """Contextual states of genes: what the last block makes of them, averaged over cells that express them.

        States are summed up batch by batch: memory grows with contexts x genes x hidden units, not with cells.

        Parameters
        ----------
        adata
            Cells; by default those the model was set up with. Genes are matched by name.
        groupby
            Obs column whose levels are the contexts; cells without a value are left out. By default all cells are one
            context, called ``"all"``.
        indices
            Row numbers; all by default.
        given
            Phenotypes whose recorded value is shown to the model; by default none.
        batch_size
            Cells per step.

        Returns
        -------
        Means of shape (n_contexts, n_genes, n_hidden) and numbers of cells of shape (n_contexts, n_genes).

        Raises
        ------
        ValueError
            If `groupby` has no value or too many, if a phenotype is not the model's, if no gene matches, or if
            expression has the wrong scale.
        KeyError
            If `groupby` or a phenotype that is `given` is not an obs column.
        """
        adata = self._data(adata)
        rows = self._rows(adata, indices)
        shown = self._shown(given)
        self._check_evidence(adata, rows, shown)
        contexts, codes = contexts_of(self._anndata(adata), groupby, rows)
        rows, codes = rows[codes >= 0], codes[codes >= 0]
        sums = _Sums(len(contexts), self.layout.n_genes, self.module.config.n_hidden)
        with evaluating(self.module):
            for start, table in self._blocks(adata, rows):
                for at, (states, genes, mask) in _run(table, self._states_of_genes, batch_size, shown):
                    sums.add(states[mask], genes[mask], np.repeat(codes[start + at], mask.sum(1).numpy()))
        return GeneStates(contexts, self.genes, *sums.means())

    def _states_of_genes(self, batch: Batch) -> list[Tensor]:
        """States, gene slots and which of them are no padding; V visible genes: (B, V, H), (B, V), (B, V)."""
        s = self.layout.n_special
        states = self.module.states(*(batch[name] for name in INPUTS[:3]))[:, s:]
        genes = batch["positions"][:, s:] - self.layout.first_gene_position
        return [states.cpu(), genes, batch["key_mask"][:, s:]]


class _Sums:
    """Adds up states by context and gene, in double precision."""

    def __init__(self, n_contexts: int, n_genes: int, n_hidden: int) -> None:
        self.shape = (n_contexts, n_genes)
        self.sums = torch.zeros(n_contexts * n_genes, n_hidden, dtype=torch.float64)
        self.counts = torch.zeros(n_contexts * n_genes, dtype=torch.int64)

    def add(self, states: Tensor, genes: Tensor, contexts: NDArray[np.int64]) -> None:
        """Add states, shape (n, n_hidden), of genes and contexts, both of shape (n,)."""
        index = torch.from_numpy(contexts) * self.shape[1] + genes
        self.sums.index_add_(0, index, states.double())
        self.counts += torch.bincount(index, minlength=len(self.counts))

    def means(self) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Means, NaN where there is no cell, and numbers of cells."""
        means = torch.where(self.counts[:, None] > 0, self.sums / self.counts[:, None], torch.nan)
        return means.float().reshape(*self.shape, -1).numpy(), self.counts.reshape(self.shape).numpy()


def contexts_of(adata: AnnData, groupby: str | None, rows: NDArray[np.int64]) -> tuple[list[str], NDArray[np.int64]]:
    """Contexts that occur among some cells, and the code of each cell, -1 where it has no value.

    Parameters
    ----------
    adata
        The cells.
    groupby
        Obs column, or None for one context.
    rows
        Row numbers of the cells; shape (n,).
    """
    if groupby is None:
        return [ALL], np.zeros(len(rows), dtype=np.int64)
    check_columns([groupby], adata, "groupby", candidates(adata.obs))
    column = adata.obs[groupby].iloc[rows]
    contexts = ordered_labels(column)
    if not contexts:
        raise ValueError(
            f"`groupby`: all {len(rows)} values of adata.obs[{groupby!r}] are missing. Pass another column."
        )
    if len(contexts) > MOST_CONTEXTS:
        raise ValueError(
            f"`groupby`: adata.obs[{groupby!r}] has {len(contexts)} different values, {shorten(contexts, 3)}, as "
            f"measurements and identifiers have, but at most {MOST_CONTEXTS} contexts can be told apart. Cut it into "
            "classes with pd.cut, or pass another column."
        )
    return contexts, encode(column, contexts)[0]
