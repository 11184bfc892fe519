"""Effect of silencing genes, or setting them high, on the phenotypes, the embedding and the other genes of cells.

Shapes: N cells, C categories of all phenotypes, R genes whose response is predicted, H = n_hidden, K perturbations.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from polygene_scverse._progress import progress
from polygene_scverse.abilities._expected_expression import expectation, step_size
from polygene_scverse.abilities._predict import linear_share, unseen_offsets
from polygene_scverse.data.feed._random import cell_keys, uniform
from polygene_scverse.data.feed._table import CellTable
from polygene_scverse.engine import INPUTS, Batch, Engine, Query
from polygene_scverse.fit import FittedState

Change = tuple[tuple[int, int, float], ...]
"""Genes that are set together: triples of gene, bin and expression, as in `Query`."""

MOST_CELLS: Final = 2_000
"""Cells drawn from larger data."""
MOST_CHANGED: Final = 100
"""Maximum number of changed cells over which shifts of phenotypes and embedding are averaged."""
MOST_ASKED: Final = 20
"""Maximum number of changed cells for shifts of expected expression; each costs one token per predicted gene."""
MOST_HIDDEN: Final = 0.15
"""Share of the genes that is hidden and predicted at a time; as in training."""
NEAREST: Final = 20
"""Number of genes of similar expression among which a random one is drawn."""
DRAW, MATCH = 120, 121
"""Random streams of the draws."""


@dataclass(frozen=True)
class Shifts:
    """Mean shifts over the cells that a perturbation changes; NaN where it changes none.

    Parameters
    ----------
    n_cells
        Number of changed cells; shape (K,).
    probabilities
        Change of the probability of each category of each phenotype; shape (K, C).
    embedding
        Change of the embedding; shape (K, H).
    distance
        Length of the change of the embedding; shape (K,).
    expression
        Change of the expected expression of other genes, NaN for those that are perturbed; shape (K, R).
    """

    n_cells: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    embedding: NDArray[np.float64]
    distance: NDArray[np.float64]
    expression: NDArray[np.float64]


def mean_expression(table: CellTable) -> NDArray[np.float64]:
    """Mean log1p of counts per 10,000 of each gene, 0 where it is unmeasured; shape (n_genes,)."""
    sums = np.bincount(table.cells.genes, table.cells.values, table.layout.n_genes)
    return sums / max(1, len(table))


def matched_genes(
    perturbed: Sequence[Sequence[int]], expression: NDArray[np.floating], usable: NDArray[np.bool_], n: int, seed: int
) -> list[tuple[int, ...]]:
    """Draw random combinations of genes with expression similar to that of the perturbed genes.

    Parameters
    ----------
    perturbed
        Genes of each perturbation.
    expression
        Mean expression of each gene; shape (n_genes,).
    usable
        Genes to draw from; shape (n_genes,).
    n
        Number of combinations of each size; fewer if genes run out, because no gene is drawn twice.
    seed
        Seed of the draws.
    """
    random = np.random.default_rng([seed, MATCH])
    found: list[tuple[int, ...]] = []
    for size in sorted({len(genes) for genes in perturbed}):
        models, free = [genes for genes in perturbed if len(genes) == size], usable.copy()
        for i in range(n):
            if free.sum() < size:
                break
            drawn = []
            for gene in models[i % len(models)]:
                left = np.flatnonzero(free)
                near = left[np.argsort(np.abs(expression[left] - expression[gene]), kind="stable")[:NEAREST]]
                drawn.append(int(random.choice(near)))
                free[drawn[-1]] = False
            found.append(tuple(sorted(drawn)))
    return found


def perturb(
    engine: Engine,
    state: FittedState,
    table: CellTable,
    changes: Sequence[Change],
    responses: NDArray[np.integer],
    *,
    seed: int = 0,
) -> Shifts:
    """Compare cells before and after a change; predictions for the unchanged cells are computed once.

    A gene whose response is predicted is hidden in both the changed and the unchanged cell. All other genes are shown,
    and no phenotype is. Cells that do not change are left out, such as cells that do not express a silenced gene.

    Parameters
    ----------
    engine, state
        The network and its fitted state.
    table
        The cells.
    changes
        Genes that are set in each perturbation.
    responses
        Genes whose expected expression is predicted; shape (R,).
    seed
        Seed of the sample of cells.
    """
    layout = engine.module.layout
    rows = [_changed(table, change, i, seed) for i, change in enumerate(changes)]
    used = np.unique(np.concatenate([np.zeros(0, np.int64), *(r[1] for r in rows)]))
    asked_of = np.unique(np.concatenate([np.zeros(0, np.int64), *(r[1][:MOST_ASKED] for r in rows)]))
    before = np.zeros((len(table), sum(engine.module.n_categories) + engine.module.config.n_hidden))
    expected = np.zeros((len(table), len(responses)))
    if len(used):
        before[used] = _phenotypes(engine, state, table.read(used), Query())
    for columns in _parts(layout.n_genes, responses):
        if len(asked_of):
            expected[np.ix_(asked_of, columns)] = _expected(engine, table.read(asked_of), responses[columns], ())
    n_categories = sum(engine.module.n_categories)
    means = np.full((len(changes), before.shape[1]), np.nan)
    distance, expression = np.full(len(changes), np.nan), np.full((len(changes), len(responses)), np.nan)
    with progress("perturbations", len(changes)) as advance:
        for i, (change, (_, at)) in enumerate(zip(changes, rows, strict=True)):
            advance(1)
            if not len(at):
                continue
            shift = _phenotypes(engine, state, table.read(np.sort(at)), Query(genes=change)) - before[np.sort(at)]
            means[i] = shift.mean(axis=0)
            distance[i] = np.linalg.norm(shift[:, n_categories:], axis=1).mean()
            some = np.sort(at[:MOST_ASKED])
            cells, own = table.read(some), np.array([gene for gene, _, _ in change])
            for columns in _parts(layout.n_genes, responses):
                others = columns[~np.isin(responses[columns], own)]
                if not len(others):
                    continue
                unchanged = expected[np.ix_(some, others)]
                if len(others) < len(columns):  # `expected` hides the perturbed genes, but here they are shown
                    unchanged = _expected(engine, cells, responses[others], ())
                changed = _expected(engine, cells, responses[others], change)
                expression[i, others] = (changed - unchanged).mean(axis=0)
    n_cells = np.array([n for n, _ in rows], dtype=np.int64)
    return Shifts(n_cells, means[:, :n_categories], means[:, n_categories:], distance, expression)


def _changed(table: CellTable, change: Change, i: int, seed: int) -> tuple[int, NDArray[np.int64]]:
    """Number of cells that the change affects, and a sample of them in random order."""
    genes, bins = (np.array([entry[k] for entry in change], dtype=np.int64) for k in (0, 1))
    cells, rows = table.cells, table.cells.rows
    differs = np.zeros(len(table), dtype=bool)
    for gene, new in zip(genes, bins, strict=True):
        current = np.zeros(len(table), dtype=np.int64)
        at = cells.genes == gene
        current[rows[at]] = cells.bins[at]
        differs |= current != new
    found = np.flatnonzero(differs)
    order = np.argsort(uniform(cell_keys(seed, i, table.ids[found]), DRAW), kind="stable")
    return len(found), found[order[:MOST_CHANGED]]


def _parts(n_genes: int, responses: NDArray[np.integer]) -> Iterator[NDArray[np.int64]]:
    """Positions of the genes that are predicted together."""
    size = max(1, int(MOST_HIDDEN * n_genes))
    yield from np.array_split(np.arange(len(responses)), -(-len(responses) // size)) if len(responses) else ()


def _phenotypes(engine: Engine, state: FittedState, table: CellTable, query: Query) -> NDArray[np.float64]:
    """Calibrated probabilities of all categories, followed by the embedding; shape (N, C + H)."""
    module, names = engine.module, engine.module.layout.phenotype_names
    share, offsets = linear_share(engine, state), unseen_offsets(engine, state)
    temperatures = [state.temperature(name) for name in names]

    def both(batch: Batch) -> list[Tensor]:
        arrays = tuple(batch[name] for name in INPUTS)
        outputs = module.inference(*module.select_genes(*arrays[:3]))
        logits = module.generative(**outputs)["phenotype_logits"]
        mixed = zip(logits, module.linear_part(*arrays, share, logits=logits), offsets, temperatures, strict=True)
        probabilities = [((z + part + offset) / t).softmax(-1) for z, part, offset, t in mixed]
        return [torch.cat([*probabilities, outputs["hidden"][:, : len(names)].mean(1)], dim=1)]

    return replace(engine, for_phenotypes=True).gather(table, query, both)[0].astype(np.float64)


def _expected(engine: Engine, table: CellTable, asked: NDArray[np.integer], change: Change) -> NDArray[np.float64]:
    """Expected expression of hidden genes; shape (N, n_asked)."""
    order = np.argsort(asked)
    smaller = replace(engine, batch_size=step_size(engine, len(asked)))
    query = Query(genes=change, asked=tuple(asked[order].tolist()))
    found = np.zeros((len(table), len(asked)))
    found[:, order] = smaller.gather(table, query, expectation(engine))[0]
    return found
