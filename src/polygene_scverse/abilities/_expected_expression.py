"""Expected expression of hidden genes, with phenotypes as recorded or set to a category."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from math import ceil
from typing import Final

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from polygene_scverse._constants import KEEP
from polygene_scverse.data.feed._random import cell_keys, uniform
from polygene_scverse.data.feed._source import CellSource
from polygene_scverse.data.feed._table import CellTable
from polygene_scverse.data.read._tokens import Cells
from polygene_scverse.engine import Batch, Engine, Query
from polygene_scverse.engine._engine import Function
from polygene_scverse.fit._expression_factors import ExpressionFactors

MAX_VALUES: Final = 500_000_000
"""Maximum number of values returned at a time: two gigabytes."""
STEP_VALUES: Final = 2**25
"""Maximum number of values of the gene decoder in memory; with many genes or categories, batches are smaller."""
BLOCK: Final = 4096
"""Cells that are read at a time where the network is not used."""
GENE_ORDER: Final = 101
"""Random stream of the order that decides which genes are hidden together."""


def check_size(n_cells: int, n_genes: int, n_results: int) -> None:
    """Raise an error if the expected values would not fit in memory.

    Parameters
    ----------
    n_cells, n_genes
        Shape of a result.
    n_results
        Number of results of this shape.
    """
    n = n_cells * n_genes * n_results
    if n > MAX_VALUES:
        raise ValueError(
            f"`adata`: expected expression of {n_genes:,} genes in {n_cells:,} cells is dense and would take "
            f"{4 * n / 1e9:.1f} GB, but the maximum is {4 * MAX_VALUES / 1e9:.1f} GB. Pass fewer cells, at "
            f"most {MAX_VALUES // (n_genes * n_results):,}, or name the genes you need in genes=."
        )


def passes(n_genes: int, genes: NDArray[np.integer], keep: float, seed: int) -> list[tuple[NDArray[np.int64], ...]]:
    """Split genes into passes of genes that are predicted together, each with other genes that are hidden as well.

    All genes are arranged in a ring in random order. Each pass hides an arc of the ring with a share of ``1 - keep`` of
    the genes, and predicts the requested genes from the start of the arc up to the start of the next one.

    Parameters
    ----------
    n_genes
        Number of genes of the model.
    genes
        Gene slots to predict, each once; shape (n_asked,).
    keep
        Share of the genes that is shown; with 1, all requested genes are predicted at once and no others are hidden.
    seed
        Seed of the random order.

    Returns
    -------
    For each pass, the slots to predict and the other slots to hide; each gene is predicted in one pass.
    """
    wanted: NDArray[np.int64] = np.unique(genes).astype(np.int64)
    if keep == 1.0:
        return [(wanted, np.zeros(0, dtype=np.int64))]
    keys = cell_keys(seed, 0, np.zeros(1, dtype=np.int64))
    ring = np.argsort(uniform(keys, GENE_ORDER, np.arange(n_genes)), kind="stable")
    n_hidden = max(1, ceil((1.0 - keep) * n_genes - 1e-9))
    n_passes = ceil(n_genes / n_hidden)
    starts = np.arange(n_passes + 1) * n_genes // n_passes
    found: list[tuple[NDArray[np.int64], ...]] = []
    for start, end in pairwise(starts):
        asked = np.intersect1d(ring[start:end], wanted)
        if len(asked):
            found.append((asked, np.setdiff1d(ring[(start + np.arange(n_hidden)) % n_genes], asked)))
    return found


def expected_expression(
    engine: Engine,
    source: CellSource,
    genes: NDArray[np.integer],
    *,
    settings: Sequence[tuple[tuple[int, int], ...]] = ((),),
    shown: tuple[int, ...] = (),
    keep: float = KEEP,
    seed: int = 0,
    log: bool = True,
) -> list[NDArray[np.float32]]:
    """Expected expression of hidden genes: mean log1p of counts per 10,000.

    A gene is never shown in the pass that predicts it. If no genes are shown, cells with the same phenotypes have the
    same result, so each combination of phenotypes is computed once.

    Parameters
    ----------
    engine
        The network.
    source
        The cells.
    genes
        Gene slots, each once; shape (n_asked,).
    settings
        Phenotypes to set in every cell, as pairs of slot and category code as in `Query`; one result for each setting.
    shown
        Slots of the other phenotypes that are shown as recorded, where known.
    keep
        Share of the cell's genes that is shown, see `passes`.
    seed
        Seed of the choice of genes that are shown together.
    log
        Whether to average log1p of counts per 10,000; otherwise counts per 10,000 are averaged.

    Returns
    -------
    For each setting an array of shape (n_cells, n_asked), in the order of `genes`.
    """
    slots: NDArray[np.int64] = np.asarray(genes, dtype=np.int64)
    if keep == 0.0:
        codes = np.concatenate([_codes(source, setting, shown) for setting in settings])
        kinds, of_cell = np.unique(codes, axis=0, return_inverse=True)
        found = np.zeros((len(kinds), len(slots)), dtype=np.float32)
        every = tuple(range(source.layout.n_phenotypes))
        _fill(engine, _empty_cells(source, kinds), Query(shown=every), slots, keep, seed, found, log=log)
        return [found[rows] for rows in np.split(of_cell.reshape(-1), len(settings))]
    results = []
    for setting in settings:
        result = np.zeros((len(source), len(slots)), dtype=np.float32)
        _fill(engine, source, Query(shown=shown, phenotypes=setting), slots, keep, seed, result, log=log)
        results.append(result)
    return results


def _fill(
    engine: Engine,
    source: CellSource,
    query: Query,
    genes: NDArray[np.int64],
    keep: float,
    seed: int,
    result: NDArray[np.float32],
    *,
    log: bool,
) -> None:
    """Write expected expression into the columns of a result, one pass at a time."""
    order = np.argsort(genes)
    for asked, hidden in passes(engine.module.layout.n_genes, genes, keep, seed):
        columns = order[np.searchsorted(genes[order], asked)]

        def write(rows: NDArray[np.int64], outputs: Sequence[Tensor], columns: NDArray[np.int64] = columns) -> None:
            result[rows[:, None], columns] = outputs[0].float().cpu().numpy()

        question = replace(query, asked=tuple(asked.tolist()), hidden=tuple(hidden.tolist()))
        smaller = replace(engine, batch_size=step_size(engine, len(asked)))
        smaller.run(source, question, expectation(engine, log=log), write)


def expectation(engine: Engine, *, log: bool = True) -> Function:
    """Function from a batch to the expected expression of its targets in the order of their slots; shape (B, M)."""
    module = engine.module

    def expected(batch: Batch) -> list[Tensor]:
        inputs = (batch[name] for name in ("tokens", "positions", "key_mask", "shown_share"))
        probabilities, values = module.gene_probabilities(*inputs)
        return [(probabilities * (values if log else values.expm1())).sum(-1)]

    return expected


def step_size(engine: Engine, n_asked: int) -> int:
    """Batch size at which the values of the gene decoder stay within `STEP_VALUES`."""
    per_cell = max(1, n_asked * engine.module.layout.n_bins * max(1, sum(engine.module.n_categories)))
    return max(1, min(engine.batch_size, STEP_VALUES // per_cell))


def denoised_expression(
    factors: ExpressionFactors, source: CellSource, genes: NDArray[np.integer], *, log: bool = True
) -> NDArray[np.float32]:
    """Expression predicted from all measured genes of a cell with the factors of the training cells.

    Parameters
    ----------
    factors
        Factors fitted to the training cells.
    source
        The cells, read in blocks.
    genes
        Gene slots; shape (n_asked,).
    log
        Whether to average log1p of counts per 10,000; otherwise counts per 10,000 are averaged.

    Returns
    -------
    Shape (n_cells, n_asked).
    """
    found = np.zeros((len(source), len(genes)), dtype=np.float32)
    for rows in np.array_split(np.arange(len(source)), max(1, -(-len(source) // BLOCK))):
        table = source.read(rows)
        x = table.cells.matrix(table.layout.n_genes)
        kinds = np.zeros(len(table), dtype=np.int64) if table.kinds is None else table.kinds
        for kind, measured in enumerate(np.atleast_2d(table.measured)):
            members = kinds == kind
            if members.any():
                found[rows[members]] = factors.expect(x[members], np.asarray(genes), measured, log=log)
    return found


def _codes(source: CellSource, setting: tuple[tuple[int, int], ...], shown: tuple[int, ...]) -> NDArray[np.int64]:
    """Categories that are shown in each cell, -1 where none is shown; shape (n_cells, n_phenotypes)."""
    codes = np.full(source.codes.shape, -1, dtype=np.int64)
    codes[:, list(shown)] = source.codes[:, list(shown)]
    for slot, category in setting:
        codes[:, slot] = category
    return codes


def _empty_cells(source: CellSource, codes: NDArray[np.int64]) -> CellTable:
    """Cells with phenotypes but without visible genes."""
    n, layout = len(codes), source.layout
    cells = Cells(np.zeros(n + 1, np.int64), np.zeros(0, np.int32), np.zeros(0, np.int16), np.zeros(0, np.float32))
    return CellTable(cells, codes, np.arange(n), layout, np.ones(layout.n_genes, dtype=bool))
