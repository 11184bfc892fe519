"""Role of a gene in a context: the mean embedding of the cells that express it, relative to all cells.

Shapes: N cells, G genes, P pairs of a context and a group, H = n_hidden.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from polygene_scverse.abilities._gene_contributions import visible_genes
from polygene_scverse.abilities._gene_states import Sums, check_size
from polygene_scverse.abilities._predict import linear_share
from polygene_scverse.data.feed._source import CellSource
from polygene_scverse.engine import INPUTS, Batch, Engine, Query
from polygene_scverse.fit import FittedState


@dataclass(frozen=True)
class GeneRoles:
    """Roles of genes by context and group.

    Parameters
    ----------
        Names of the context and of the group of each pair; length P.
        Names of the context and of the group of each pair; P each.
    genes
        Genes of the model.
    roles
        Mean state of the cells of the pair that express the gene minus the mean over all its cells, 0 where no cell
        expresses it; shape (P, G, H).
    n_cells
        Number of cells that express the gene; shape (P, G).
    covariates
        Covariates of the same cells: log of their share of the pair's cells, mean expression (log1p of counts per
        10,000), and their mean log number of expressed genes minus that of all cells; shape (P, G, 3).
    expression
        Mean expression over all cells of the pair; shape (P, G).
    """

    contexts: list[str]
    groups: list[str]
    genes: list[str]
    roles: NDArray[np.float64]
    n_cells: NDArray[np.int64]
    covariates: NDArray[np.float64]
    expression: NDArray[np.float64]


def gene_roles(
    engine: Engine,
    state: FittedState,
    source: CellSource,
    pairs: tuple[Sequence[str], Sequence[str]],
    codes: NDArray[np.int64],
    slots: Sequence[int],
) -> GeneRoles:
    """Mean state of the cells that express a gene, relative to all cells, by context and group.

    The state of a cell is the mean over phenotypes of the states from which they are predicted, with both paths
    combined as in the embedding. No phenotype is shown.

    Parameters
    ----------
    engine, state
        The network and its fitted state.
    source
        The cells.
    pairs
        Context and group of each pair.
    codes
        Pair of each cell; shape (N,).
    slots
        Slots of the phenotypes whose states are averaged.
    """
    module, share = engine.module, linear_share(engine, state)
    layout, n_pairs = module.layout, len(pairs[0])
    check_size(n_pairs, layout.n_genes, module.config.n_hidden + 2)
    sums = Sums(n_pairs, layout.n_genes, module.config.n_hidden + 2)
    totals = np.zeros((n_pairs, module.config.n_hidden + 2))

    def states(batch: Batch) -> list[Tensor]:
        """Cell states, expression, genes and a mask (False on padding), with V visible genes: (B, H), (B, V) …."""
        found = module.decision_states(*(batch[name] for name in INPUTS), share)[:, list(slots)].mean(1)
        return [found.cpu(), batch["values"], *visible_genes(engine, batch)]

    def add(rows: NDArray[np.int64], outputs: Sequence[Tensor]) -> None:
        found, values, genes, mask = outputs
        lengths = mask.sum(1)
        of_cells = torch.cat([found, lengths.clamp(min=1).log()[:, None].to(found.dtype)], dim=1)  # (B, H + 1)
        of_genes = torch.cat([of_cells.repeat_interleave(lengths, dim=0), values[mask][:, None]], dim=1)
        sums.add(of_genes, genes[mask], np.repeat(codes[rows], lengths.numpy()))
        np.add.at(totals[:, :-1], codes[rows], of_cells.double().numpy())

    replace(engine, for_phenotypes=True).run(source, Query(), states, add)
    n_of_pair = np.bincount(codes, minlength=n_pairs)[:, None]
    found, n_cells = sums.means(torch.float64)
    found = np.nan_to_num(found)
    relative = np.where(n_cells[..., None] > 0, found - (totals / n_of_pair)[:, None], 0.0)
    share_of_cells = np.log(np.maximum(n_cells, 0.5) / n_of_pair)
    covariates = np.stack([share_of_cells, found[..., -1], relative[..., -2]], axis=-1)
    expression = found[..., -1] * n_cells / n_of_pair
    names = (list(pairs[0]), list(pairs[1]), list(layout.genes))
    return GeneRoles(*names, relative[..., :-2], n_cells, covariates, expression)
