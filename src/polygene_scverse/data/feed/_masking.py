"""Choice of the visible genes, the targets and the hidden phenotypes.

Targets are drawn first, among expressed and not-expressed genes alike, and are removed from the visible genes. Which
genes are visible therefore carries no information about the targets. Every draw depends on (seed, epoch, cell) only,
see `_random`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from polygene_scverse._validate import check_choice, check_fraction
from polygene_scverse.data.feed._random import cell_keys, uniform
from polygene_scverse.data.feed._table import CellPart
from polygene_scverse.data.read._tokens import Cells

_TARGET, _DROP, _DROP_RATE, _ZERO, _ZERO_START, _ZERO_COUNT, _HIDE, _HIDE_ALL, _ANY_SHARE = range(9)  # streams


@dataclass(frozen=True)
class MaskingRates:
    """Rates at which tokens are hidden in training.

    Parameters
    ----------
    expressed
        Fraction of the expressed genes that become targets.
    not_expressed
        Fraction of the measured, not-expressed genes that become targets; ``"match"`` draws as many as there are
        expressed targets. The rate of the original is 0.15.
    gene_dropout
        Maximum dropout of the remaining expressed genes: the dropout rate of each cell is drawn from U(0,
        `gene_dropout`).
    any_share
        Probability that the dropout rate of a cell is drawn from U(0, 1) instead. Has no effect if `gene_dropout` is 0.
    max_genes
        Maximum number of expressed genes to show; if there are more, they are drawn at random.
    hide_all
        Probability that all phenotypes of a cell are hidden, as in prediction.
    hide_each
        Otherwise, the probability that a phenotype is hidden.
    """

    expressed: float = 0.15
    not_expressed: float | Literal["match"] = "match"
    gene_dropout: float = 0.3
    any_share: float = 0.3
    max_genes: int = 1024
    hide_all: float = 0.5
    hide_each: float = 0.5

    def __post_init__(self) -> None:
        for name in ("expressed", "gene_dropout", "any_share", "hide_all", "hide_each"):
            check_fraction(getattr(self, name), name)
        if isinstance(self.not_expressed, str):
            check_choice(self.not_expressed, ("match",), "not_expressed")
        else:
            check_fraction(self.not_expressed, "not_expressed")
        if self.max_genes < 1:
            raise ValueError(f"`max_genes`: found {self.max_genes}, but it must be at least 1. Pass 1 or more.")


@dataclass(frozen=True)
class Masking:
    """Masking of the cells of a batch.

    Parameters
    ----------
    visible
        Which entries of the cells are visible; shape (n_entries,).
    target
        Which entries are targets; shape (n_entries,).
    zero_rows, zero_genes
        Cell and gene slot of the not-expressed targets, sorted by cell; shape (n_zero_targets,).
    log_sampling_ratio
        Per cell, log ratio of the rates at which not-expressed and expressed genes become targets; shape (n_cells,). If
        it is added to the logit of bin 0 in the loss, the model learns the logits for all genes.
    hidden
        Which phenotypes are hidden; shape (n_cells, n_phenotypes).
    shown_share
        Share of the measured genes, expressed or not, that is not hidden; shape (n_cells,). By default all are shown.
    """

    visible: NDArray[np.bool_]
    target: NDArray[np.bool_]
    zero_rows: NDArray[np.int64]
    zero_genes: NDArray[np.int64]
    log_sampling_ratio: NDArray[np.float32]
    hidden: NDArray[np.bool_]
    shown_share: NDArray[np.float32] | None = None


def ask(
    cells: Cells,
    genes: NDArray[np.int64],
    hidden: NDArray[np.bool_],
    shown_share: NDArray[np.float32] | None = None,
) -> Masking:
    """Use the same genes as targets in every cell, expressed or not; every other expressed gene is visible.

    Parameters
    ----------
    cells
        The cells of the batch.
    genes
        Slots of the genes to predict, each once; shape (n_asked,).
    hidden
        Which phenotypes are hidden; shape (n_cells, n_phenotypes).
    shown_share
        Share of the measured genes that is not hidden; shape (n_cells,). By default all are shown.
    """
    n = len(cells)
    target = np.isin(cells.genes, genes) if len(genes) else np.zeros(len(cells.genes), dtype=bool)
    rows = cells.rows
    column = np.searchsorted(np.sort(genes), cells.genes[target])
    silent = np.ones((n, len(genes)), dtype=bool)
    silent[rows[target], column] = False
    zero_rows, zero_columns = np.nonzero(silent)
    none_drawn = np.zeros(n, dtype=np.float32)
    return Masking(~target, target, zero_rows, np.sort(genes)[zero_columns], none_drawn, hidden, shown_share)


def draw(
    cells: Cells,
    ids: NDArray[np.integer],
    measured: NDArray[np.bool_],
    n_phenotypes: int,
    rates: MaskingRates,
    *,
    seed: int,
    epoch: int,
    hidden_share: float | None = None,
) -> Masking:
    """Draw targets, dropped genes and hidden phenotypes.

    Parameters
    ----------
    cells
        The cells of the batch.
    ids
        Ids of the cells; the draw depends on them, `seed` and `epoch`. Shape (n_cells,).
    measured
        Whether each gene is measured; shape (n_genes,).
    n_phenotypes
        Number of phenotypes.
    rates
        Rates at which tokens are hidden.
    seed, epoch
        See `_random`.
    hidden_share
        Replaces the gene dropout of the rates: share of the genes other than targets that is also hidden. The genes
        hidden at a lower share are a subset of those hidden at a higher share.
    """
    keys = cell_keys(seed, epoch, ids)
    lengths, rows = cells.lengths, cells.rows
    entry_keys = keys[rows]
    target = uniform(entry_keys, _TARGET, cells.genes) < rates.expressed
    visible, left_out = _draw_visible(cells, target, keys, entry_keys, rows, rates, hidden_share)
    n_targets = np.bincount(rows[target], minlength=len(cells))
    n_absent = measured.sum() - lengths
    n_zero = _number_of_zero_targets(n_targets, n_absent, keys, rates)
    zero_rows = np.repeat(np.arange(len(cells)), n_zero)
    zero_genes = _draw_absent(cells, measured, n_zero, n_absent, keys)
    ratio = _log_sampling_ratio(lengths, n_targets, n_absent, n_zero, rates)
    hidden = uniform(keys[:, None], _HIDE, np.arange(n_phenotypes)) < rates.hide_each
    hidden |= (uniform(keys, _HIDE_ALL) < rates.hide_all)[:, None]
    shown_share = ((1.0 - left_out) * (1.0 - rates.expressed)).astype(np.float32)
    return Masking(visible, target, zero_rows, zero_genes, ratio, hidden, shown_share)


def _draw_visible(
    cells: Cells,
    target: NDArray[np.bool_],
    keys: NDArray[np.uint64],
    entry_keys: NDArray[np.uint64],
    rows: NDArray[np.int64],
    rates: MaskingRates,
    hidden_share: float | None,
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Apply gene dropout and `max_genes`: of the entries that are not targets, keep those with the highest numbers.

    Returns
    -------
    Which entries are visible, and the share of each cell's non-target genes that is hidden; independent of the targets.
    """
    dropout = rates.gene_dropout if hidden_share is None else hidden_share
    if not dropout and not (cells.lengths > rates.max_genes).any():
        return ~target, np.zeros(len(cells))
    draws = np.where(target, -1.0, uniform(entry_keys, _DROP, cells.genes))
    if hidden_share is None:
        rate = uniform(keys, _DROP_RATE)
        any_share = (uniform(keys, _ANY_SHARE) < rates.any_share) & (rates.gene_dropout > 0)
        floor = np.where(any_share, rate, rate * rates.gene_dropout)
    else:
        floor = np.full(len(cells), float(hidden_share))
    for cell in np.flatnonzero(cells.lengths > rates.max_genes):
        cell_draws = draws[cells.indptr[cell] : cells.indptr[cell + 1]]
        nth = np.partition(cell_draws, -rates.max_genes)[-rates.max_genes]
        floor[cell] = max(floor[cell], nth)
    return (draws >= floor[rows]) & ~target, floor


def _number_of_zero_targets(
    n_targets: NDArray[np.int64], n_absent: NDArray[np.int64], keys: NDArray[np.uint64], rates: MaskingRates
) -> NDArray[np.int64]:
    """Number of not-expressed genes of each cell that become targets; shape (n_cells,)."""
    if rates.not_expressed == "match":
        return np.minimum(n_targets, n_absent)
    return np.floor(n_absent * rates.not_expressed + uniform(keys, _ZERO_COUNT)).astype(np.int64)


def _log_sampling_ratio(
    lengths: NDArray[np.int64],
    n_targets: NDArray[np.int64],
    n_absent: NDArray[np.int64],
    n_zero: NDArray[np.int64],
    rates: MaskingRates,
) -> NDArray[np.float32]:
    """Log of the share of not-expressed genes that are targets over that of expressed genes; shape (n_cells,)."""
    if rates.not_expressed == "match":  # from the drawn numbers: each cell has its own share
        shares = n_zero * lengths, n_targets * n_absent
    else:
        shares = np.full(len(lengths), rates.not_expressed), np.full(len(lengths), rates.expressed)
    ratio = np.divide(*shares, out=np.ones(len(lengths)), where=(shares[0] > 0) & (shares[1] > 0))
    return np.log(ratio).astype(np.float32)


def _draw_absent(
    cells: Cells,
    measured: NDArray[np.bool_],
    n_draws: NDArray[np.int64],
    n_absent: NDArray[np.int64],
    keys: NDArray[np.uint64],
) -> NDArray[np.int64]:
    """Draw measured genes that a cell does not express, without repeats; slots of shape (sum of `n_draws`,).

    The not-expressed genes of a cell are arranged in a ring. From a random start, the ring is cut into as many arcs of
    whole genes as there are draws, and one gene is drawn from each arc, so that all genes are equally likely. The r-th
    gene that is *not* in a sorted list is found by counting the list members before it, with one binary search over all
    cells.
    """
    slot_of_measured = np.flatnonzero(measured)
    rank_of_slot = np.cumsum(measured) - 1
    n_measured = len(slot_of_measured)
    rows = np.repeat(np.arange(len(cells)), n_draws)
    within = np.arange(len(rows)) - np.repeat(np.cumsum(n_draws) - n_draws, n_draws)
    start = np.floor(uniform(keys, _ZERO_START) * n_absent).astype(np.int64)
    begin, end = (((within + i) * n_absent[rows] + start[rows]) // n_draws[rows] for i in (0, 1))
    jitter = np.floor(uniform(keys[rows], _ZERO, within) * (end - begin)).astype(np.int64)
    absent_rank = (begin + jitter) % n_absent[rows]
    entry_rows = cells.rows
    entry_within = np.arange(len(entry_rows)) - cells.indptr[entry_rows]
    gaps_before = rank_of_slot[cells.genes] - entry_within  # number of not-expressed genes before each expressed gene
    position = np.searchsorted(
        entry_rows * (n_measured + 1) + gaps_before, rows * (n_measured + 1) + absent_rank, "right"
    )
    return slot_of_measured[absent_rank + position - cells.indptr[rows]]


def draw_mixed(
    part: CellPart,
    measured: NDArray[np.bool_],
    n_phenotypes: int,
    rates: MaskingRates,
    *,
    seed: int,
    epoch: int,
    hidden_share: float | None = None,
) -> Masking:
    """As `draw`, for cells with different measured genes; the draw of a cell does not depend on other cells."""
    cells, n = part.cells, len(part.cells)
    present = np.unique(part.kinds)
    measured = np.atleast_2d(measured)
    if len(present) < 2:
        common = measured[present[0] if n else 0]
        return draw(cells, part.ids, common, n_phenotypes, rates, seed=seed, epoch=epoch, hidden_share=hidden_share)
    rows = cells.rows
    visible, target = np.zeros((2, len(rows)), dtype=bool)
    ratio, shown_share = np.zeros((2, n), dtype=np.float32)
    hidden = np.zeros((n, n_phenotypes), dtype=bool)
    zero_rows, zero_genes = [], []
    for kind in present:
        members = np.flatnonzero(part.kinds == kind)
        entries = (part.kinds == kind)[rows]
        some = cells.take(members), part.ids[members], measured[kind]
        m = draw(*some, n_phenotypes, rates, seed=seed, epoch=epoch, hidden_share=hidden_share)
        visible[entries], target[entries] = m.visible, m.target
        ratio[members], hidden[members], shown_share[members] = m.log_sampling_ratio, m.hidden, m.shown_share
        zero_rows.append(members[m.zero_rows])
        zero_genes.append(m.zero_genes)
    zero_cells = np.concatenate(zero_rows)
    order = np.argsort(zero_cells, kind="stable")
    genes = np.concatenate(zero_genes)[order]
    return Masking(visible, target, zero_cells[order], genes, ratio, hidden, shown_share)
