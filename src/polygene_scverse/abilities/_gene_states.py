"""Contextual states of genes: means over the cells of a context that express them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from anndata import AnnData
from numpy.typing import NDArray
from torch import Tensor

from polygene_scverse._validate import check_columns, shorten
from polygene_scverse.data.feed._source import CellSource
from polygene_scverse.data.read._phenotypes import candidates, encode, ordered_labels
from polygene_scverse.engine import INPUTS, Batch, Engine, Query

MAX_BYTES = 4e9
"""Maximum size of the summed states in double precision."""
ALL = "all"
"""Name of the single context if cells are not grouped."""
MAX_CONTEXTS = 500


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
        Number of cells of a context that express the gene; shape (n_contexts, n_genes).
    groups
        If states are averaged by context and group, the group of each entry of `contexts`, in which a context is then
        repeated for each of its groups; otherwise None.
    """

    contexts: list[str]
    genes: list[str]
    means: NDArray[np.float32]
    n_cells: NDArray[np.int64]
    groups: list[str] | None = None


def gene_states(
    engine: Engine, source: CellSource, query: Query, contexts: Sequence[str], codes: NDArray[np.int64]
) -> GeneStates:
    """Contextual states of genes, averaged over the cells of each context that express them.

    States are summed batch by batch, so memory grows with contexts x genes x hidden units and not with cells.

    Parameters
    ----------
    engine
        The network.
    source
        The cells.
    query
        What is shown to the network.
    contexts
        Names of the contexts.
    codes
        Context of each cell; shape (n_cells,).
    """
    module = engine.module
    layout, s = module.layout, module.layout.n_special
    check_size(len(contexts), layout.n_genes, module.config.n_hidden)
    sums = Sums(len(contexts), layout.n_genes, module.config.n_hidden)

    def states(batch: Batch) -> list[Tensor]:
        """States, gene slots and a mask that is False on padding, with V visible genes: (B, V, H), (B, V), (B, V)."""
        found = module.states(*(batch[name] for name in INPUTS[:3]))[:, s:]
        genes = batch["positions"][:, s:] - layout.first_gene_position
        return [found.cpu(), genes, batch["key_mask"][:, s:]]

    def add(rows: NDArray[np.int64], outputs: Sequence[Tensor]) -> None:
        found, genes, mask = outputs
        sums.add(found[mask], genes[mask], np.repeat(codes[rows], mask.sum(1).numpy()))

    engine.run(source, query, states, add)
    return GeneStates(list(contexts), list(layout.genes), *sums.means())


class Sums:
    """Sums of states by context and gene, in double precision.

    Parameters
    ----------
    n_contexts, n_genes, n_hidden
        Shape of the sums.
    """

    def __init__(self, n_contexts: int, n_genes: int, n_hidden: int) -> None:
        self.shape = (n_contexts, n_genes)
        self.sums = torch.zeros(n_contexts * n_genes, n_hidden, dtype=torch.float64)
        self.counts = torch.zeros(n_contexts * n_genes, dtype=torch.int64)

    def add(self, states: Tensor, genes: Tensor, contexts: NDArray[np.int64]) -> None:
        """Add states of shape (n, n_hidden); `genes` and `contexts` have shape (n,)."""
        index = torch.from_numpy(contexts) * self.shape[1] + genes
        self.sums.index_add_(0, index, states.double())
        self.counts += torch.bincount(index, minlength=len(self.counts))

    def means(self, dtype: torch.dtype = torch.float32) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """Means, NaN where there is no cell, and numbers of cells."""
        means = torch.where(self.counts[:, None] > 0, self.sums / self.counts[:, None], torch.nan)
        return means.to(dtype).reshape(*self.shape, -1).numpy(), self.counts.reshape(self.shape).numpy()


def find_contexts(
    adata: AnnData, groupby: str | None, rows: NDArray[np.int64], argument: str = "groupby"
) -> tuple[list[str], NDArray[np.int64]]:
    """Contexts that occur among the given cells, and the code of each cell, -1 where the value is missing.

    Parameters
    ----------
    adata
        The cells.
    groupby
        Obs column, or None for one context.
    rows
        Row numbers of the cells; shape (n,).
    argument
        Name of `groupby` in errors.
    """
    if groupby is None:
        return [ALL], np.zeros(len(rows), dtype=np.int64)
    check_columns([groupby], adata.obs, argument, candidates)
    column = adata.obs[groupby].iloc[rows]
    contexts = ordered_labels(column)
    if not contexts:
        raise ValueError(
            f"`{argument}`: all {len(rows)} values of adata.obs[{groupby!r}] are missing. Pass another column."
        )
    if len(contexts) > MAX_CONTEXTS:
        raise ValueError(
            f"`{argument}`: adata.obs[{groupby!r}] has {len(contexts)} different values, {shorten(contexts, 3)}, as "
            f"measurements and identifiers have, but at most {MAX_CONTEXTS} contexts are supported. Cut it into "
            "classes with pd.cut, or pass another column."
        )
    return contexts, encode(column, contexts)[0]


def find_pairs(
    adata: AnnData, groupby: str | None, group_key: str, rows: NDArray[np.int64]
) -> tuple[list[str], list[str], NDArray[np.int64]]:
    """Pairs of context and group that occur among the given cells, and the pair of each cell, -1 for none.

    Parameters
    ----------
    adata
        The cells.
    groupby
        Obs column of the contexts, or None for one.
    group_key
        Obs column of the groups.
    rows
        Row numbers of the cells; shape (n,).
    """
    contexts, codes = find_contexts(adata, groupby, rows)
    check_columns([group_key], adata.obs, "group_key", candidates)
    column = adata.obs[group_key].iloc[rows]
    groups = ordered_labels(column)
    of_group = encode(column, groups)[0]
    known = (codes >= 0) & (of_group >= 0)
    if not known.any():
        raise ValueError(
            f"`group_key`: no cell has both a context and a value in adata.obs[{group_key!r}]. Pass another column."
        )
    pairs, found = np.unique(codes[known] * len(groups) + of_group[known], return_inverse=True)
    of_cell = np.full(len(rows), -1, dtype=np.int64)
    of_cell[known] = found
    return [contexts[i // len(groups)] for i in pairs], [groups[i % len(groups)] for i in pairs], of_cell


def check_size(n_contexts: int, n_genes: int, n_hidden: int) -> None:
    """Raise an error if the sums of states would not fit in memory.

    Parameters
    ----------
    n_contexts, n_genes, n_hidden
        Shape of the sums.
    """
    if (size := 8 * n_contexts * n_genes * n_hidden) > MAX_BYTES:
        raise ValueError(
            f"`groupby`: states of {n_genes} genes in {n_contexts} contexts, or pairs of context and group, would take "
            f"{size / 1e9:.1f} GB, but the maximum is {MAX_BYTES / 1e9:.0f} GB. Pass fewer contexts or groups."
        )
