"""Generate cells with given phenotypes in rounds: bins are drawn conditional on those of the earlier rounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from scipy.stats import binom
from torch import Tensor

from polygene_scverse._constants import N_ROUNDS, TARGET_SUM
from polygene_scverse._progress import progress
from polygene_scverse.abilities._expected_expression import step_size
from polygene_scverse.data.feed._random import cell_keys, uniform
from polygene_scverse.data.feed._table import CellTable
from polygene_scverse.data.read._tokens import Cells
from polygene_scverse.engine import Batch, Engine, Query
from polygene_scverse.fit import FittedState
from polygene_scverse.fit._count_model import CountModel

BLOCK: Final = 1024
"""Cells that are generated together, with the same order of genes."""
MAX_ENTRIES: Final = 250_000_000
"""Maximum number of expressed genes in all generated cells: about four gigabytes."""
LARGEST_DEPTH: Final = 10**9
"""Maximum total counts of a generated cell."""
ORDER, BIN, COUNT, DEPTH, KIND, FACTOR = range(110, 116)
"""Random streams of the draws."""


def check_size(engine: Engine, n_cells: int) -> None:
    """Raise an error if the generated cells would not fit in memory.

    Parameters
    ----------
    engine
        The network; its gene decoder predicts the number of expressed genes of a cell.
    n_cells
        Number of cells.
    """
    decoder = engine.module.gene_decoder
    per_cell = 0.0 if decoder is None else float((1.0 - decoder.bias.softmax(-1)[:, 0]).sum())
    if n_cells * per_cell > MAX_ENTRIES:
        raise ValueError(
            f"`n_obs`: {n_cells:,} cells with some {per_cell:,.0f} expressed genes each would take "
            f"{16 * n_cells * per_cell / 1e9:.1f} GB. Generate at most {int(MAX_ENTRIES / per_cell):,} at a time, with "
            "a different seed each time."
        )


def draw_phenotypes(
    state: FittedState, codes: NDArray[np.int64], seed: int
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Draw the phenotypes that are not given, see `Kinds.complete`.

    Parameters
    ----------
    state
        The fitted state.
    codes
        Category of each phenotype, -1 where it is to be drawn; shape (n_cells, n_phenotypes).
    seed
        Seed of the draws.
    """
    if state.kinds is None:
        raise ValueError(
            "`model`: it does not store the combinations of categories in training, because it was saved by an "
            "earlier version. Train it again with pgs.tl.train."
        )
    keys = cell_keys(seed, 0, np.arange(len(codes)))
    draws = uniform(keys[:, None], KIND, np.arange(1 + codes.shape[1]))
    return state.kinds.complete(codes, state.category_counts, draws)


def draw_depths(engine: Engine, state: FittedState, codes: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Draw total counts from the training cells with the same categories; shape (n_cells,).

    Raises
    ------
    ValueError
        If the expression of the training cells is not derived from counts.
    """
    if state.kinds is None or not len(state.kinds.log_depths):
        raise ValueError(
            "`depth`: found None, but the total counts of the training cells are unknown, because their expression "
            "is not integer counts. Pass depth= with the total count of a cell, such as 5,000."
        )
    keys = cell_keys(seed, 0, np.arange(len(codes)))
    return state.kinds.depths(codes, engine.module.n_categories, uniform(keys, DEPTH))


def generate(
    engine: Engine,
    codes: NDArray[np.int64],
    depths: NDArray[np.int64],
    *,
    n_rounds: int = N_ROUNDS,
    temperature: float = 1.0,
    seed: int = 0,
) -> tuple[sp.csr_matrix, sp.csr_matrix, NDArray[np.int64]]:
    """Generate cells; a cell is the same for the same seed.

    Parameters
    ----------
    engine
        The network.
    codes
        Category of each phenotype of each cell; shape (n_cells, n_phenotypes).
    depths
        Total counts. Among cells of the same phenotypes, the larger ones are given to cells that express more genes.
        Shape (n_cells,).
    n_rounds
        Number of rounds in which genes are drawn: few genes in the first round, more later. Genes of the same round are
        drawn independently of each other.
    temperature
        Divisor of the logits; values below 1 make cells more alike.
    seed
        Seed of the draws.

    Returns
    -------
    Expression (log1p of counts per 10,000) and counts, shape (n_cells, n_genes); and total counts, shape (n_cells,).
    Total counts include genes that the model does not have, and are at least the sum over the genes that it has.
    """
    layout = engine.module.layout
    parts = []
    with progress("cells", len(codes)) as advance:
        for start in range(0, len(codes), BLOCK):
            ids = np.arange(start, min(start + BLOCK, len(codes)))
            parts.append(_block(engine, codes[ids], ids, start // BLOCK, n_rounds, temperature, seed))
            advance(len(ids))
    cells = Cells.concatenate(parts)
    totals = _by_length(cells.lengths, codes, depths)
    rows = cells.rows
    rates = np.expm1(cells.values.astype(np.float64)) * totals[rows] / TARGET_SUM
    counts = np.floor(rates + uniform(cell_keys(seed, 0, rows), COUNT, cells.genes))
    counts = np.maximum(counts, 1.0)  # an expressed gene has a count
    totals = np.maximum(totals, np.bincount(rows, counts, len(cells)).astype(np.int64))
    values = np.log1p(counts * TARGET_SUM / totals[rows]).astype(np.float32)
    shape = (len(cells), layout.n_genes)
    tables = [sp.csr_matrix((x, cells.genes.copy(), cells.indptr.copy()), shape) for x in (values, counts)]
    return tables[0], tables[1].astype(np.int32), totals


def generate_counts(
    engine: Engine,
    model: CountModel,
    codes: NDArray[np.int64],
    depths: NDArray[np.int64],
    *,
    wanted: int | None = None,
    temperature: float = 1.0,
    seed: int = 0,
) -> tuple[sp.csr_matrix, sp.csr_matrix, NDArray[np.int64]]:
    """Generate cells with the gene covariance of the training cells; a cell is the same for the same seed.

    Parameters
    ----------
    engine
        The network, which defines the genes.
    model
        Count model fitted to the counts of the training cells.
    codes
        Category of each phenotype of each cell; shape (n_cells, n_phenotypes).
    depths
        Total counts drawn from training cells of these phenotypes; the larger ones are given to cells with more counts.
        Shape (n_cells,).
    wanted
        Total count to which each cell is scaled at the end: down by binomial draws of its counts, up by multiplication.
    temperature, seed
        As for `generate`.

    Returns
    -------
    As for `generate`.
    """
    layout, parts = engine.module.layout, []
    n_factors = model.n_factors
    with progress("cells", len(codes)) as advance:
        for start in range(0, len(codes), BLOCK):
            ids = np.arange(start, min(start + BLOCK, len(codes)))
            keys = cell_keys(seed, 0, ids)[:, None]
            both = uniform(keys, FACTOR, np.arange(n_factors)), uniform(keys, BIN, np.arange(layout.n_genes))
            of_factors, of_genes = (np.clip(part, 1e-9, 1.0 - 1e-9) for part in both)
            drawn = model.draw(codes[ids], engine.module.n_categories, of_factors, of_genes, temperature)
            parts.append(sp.csr_matrix(drawn))
            advance(len(ids))
    counts = sp.csr_matrix(sp.vstack(parts, format="csr"))
    sums = np.asarray(counts.sum(axis=1)).ravel()
    totals = np.maximum(_by_length(sums, codes, depths), sums)
    if wanted is not None:
        rows = np.repeat(np.arange(len(codes)), np.diff(counts.indptr))
        u, shares = uniform(cell_keys(seed, 0, rows), COUNT, counts.indices), (wanted / totals)[rows]
        fewer = binom.ppf(u, counts.data, np.minimum(shares, 1.0))
        counts.data = np.where(shares < 1.0, fewer, np.floor(counts.data * shares + u)).astype(np.int64)
        counts.eliminate_zeros()
        totals = np.maximum(wanted, np.asarray(counts.sum(axis=1)).ravel())
    values = np.log1p(counts.data * TARGET_SUM / np.repeat(totals, np.diff(counts.indptr))).astype(np.float32)
    x = sp.csr_matrix((values, counts.indices.copy(), counts.indptr.copy()), counts.shape)
    return x, counts.astype(np.int32), totals.astype(np.int64)


def round_ends(n_genes: int, n_rounds: int) -> NDArray[np.int64]:
    """Number of genes drawn by the end of each round (quarter cosine); shape (n_rounds,), shorter for few genes."""
    shares = 1.0 - np.cos(np.arange(1, n_rounds + 1) / n_rounds * np.pi / 2)
    return np.unique(np.maximum(np.rint(shares * n_genes), 1).astype(np.int64))


def _block(
    engine: Engine,
    codes: NDArray[np.int64],
    ids: NDArray[np.int64],
    block: int,
    n_rounds: int,
    temperature: float,
    seed: int,
) -> Cells:
    """Generate a block of cells with one order of genes; values are the mean expression of the bins."""
    layout, module = engine.module.layout, engine.module
    order_keys = cell_keys(seed, 1 + block, np.zeros(1, dtype=np.int64))
    order = np.argsort(uniform(order_keys, ORDER, np.arange(layout.n_genes)), kind="stable")
    keys, every = cell_keys(seed, 0, ids), tuple(range(layout.n_phenotypes))
    bins = np.zeros((len(ids), layout.n_genes), dtype=np.int16)
    values = np.zeros((len(ids), layout.n_genes), dtype=np.float32)
    start = 0
    for end in round_ends(layout.n_genes, n_rounds):
        asked = np.sort(order[start:end])
        draws = torch.from_numpy(uniform(keys[:, None], BIN, asked))  # (n, M)

        def drawn(batch: Batch, draws: Tensor = draws) -> Sequence[Tensor]:
            inputs = (batch[name] for name in ("tokens", "positions", "key_mask", "shown_share"))
            probabilities, expression = module.gene_probabilities(*inputs, temperature=temperature)
            edges = probabilities.double().cpu().cumsum(-1)  # (B, M, V)
            u = draws[batch["rows"] - int(ids[0])] * edges[..., -1]
            found = (edges[..., :-1] <= u[..., None]).sum(-1)
            return [found, expression.cpu().gather(-1, found[..., None])[..., 0]]

        def write(rows: NDArray[np.int64], outputs: Sequence[Tensor], asked: NDArray[np.int64] = asked) -> None:
            bins[rows[:, None], asked] = outputs[0].numpy()
            values[rows[:, None], asked] = outputs[1].float().numpy()

        known = CellTable(_cells(bins, values), codes, ids, layout, np.ones(layout.n_genes, dtype=bool))
        query = Query(shown=every, asked=tuple(asked.tolist()), hidden=tuple(order[end:].tolist()))
        replace(engine, batch_size=step_size(engine, len(asked))).run(known, query, drawn, write)
        start = int(end)
    return _cells(bins, values)


def _cells(bins: NDArray[np.int16], values: NDArray[np.float32]) -> Cells:
    """Convert dense arrays to `Cells`; shape (n_cells, n_genes) each."""
    x = sp.csr_matrix(bins)
    return Cells(x.indptr.astype(np.int64), x.indices.astype(np.int32), x.data, values[bins > 0])


def _by_length(lengths: NDArray[np.int64], codes: NDArray[np.int64], depths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Reorder depths within each combination of phenotypes so that cells with larger `lengths` get larger depths."""
    found = depths.copy()
    group = np.unique(codes, axis=0, return_inverse=True)[1].reshape(-1)
    for kind in range(int(group.max(initial=-1)) + 1):
        at = np.flatnonzero(group == kind)
        found[at[np.argsort(lengths[at], kind="stable")]] = np.sort(depths[at])
    return found
