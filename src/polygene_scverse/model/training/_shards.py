"""Training on files that need not fit into memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scvi.model.base import BaseModelClass

from polygene_scverse._layout import TokenLayout
from polygene_scverse.data.read._binning import EVERY_VALUE, make_edges
from polygene_scverse.data.read._ordered import Ordered, resolve_ordered
from polygene_scverse.data.read._phenotypes import categories_of, missing_words, warn_of_words
from polygene_scverse.data.read._scale import Scale
from polygene_scverse.data.read._source import spread_rows
from polygene_scverse.data.shards._feed import ShardFeed
from polygene_scverse.data.shards._shard_set import ShardSet
from polygene_scverse.data.shards._survey import shares_of, tokenizers_of, warn_unmeasured
from polygene_scverse.model._setup import registry_of
from polygene_scverse.model.training._training import SHARE_CELLS, TrainingCells


def read_shards(
    shards: ShardSet,
    rows: tuple[NDArray[np.int64], NDArray[np.int64]],
    layout: TokenLayout,
    columns: Mapping[str, list[str]],
    scales: Sequence[Scale],
    *,
    binning: Any,
    groups: Any,
    buffer_cells: int,
) -> TrainingCells:
    """Create training cells that stay in their files, and read held-out cells into memory.

    Bin edges and the usual length are computed from one buffer of training cells. If a buffer has all cells, the result
    is the same as in memory.

    Parameters
    ----------
    shards
        The files.
    rows
        Numbers of the training and of the held-out cells.
    layout
        Token ids and positions.
    columns
        Obs column of each phenotype, and its categories.
    scales
        Scale of each file.
    binning
        How bin edges are computed, see `make_edges`.
    groups
        Group of each cell, if known.
    buffer_cells
        Number of cells that are in memory and shuffled together.
    """

    def feed(at: NDArray[np.int64], edges: NDArray[np.float64]) -> ShardFeed:
        tokenizers = tokenizers_of(shards, layout.genes, scales, edges)
        return ShardFeed(shards, at, layout, dict(columns), tokenizers, buffer_cells)

    every = feed(rows[0], EVERY_VALUE)
    warn_unmeasured(shards, layout.genes, every.tokenizers)
    sample = every.read(every.buffers(buffer_cells, np.random.default_rng(0))[0])
    edges = make_edges(binning, layout.n_bins, sample.cells.values)
    train = feed(rows[0], edges)
    train.lengths = np.resize(sample.rebinned(edges).lengths, len(rows[0]))
    held_out = feed(rows[1], edges).read(np.arange(len(rows[1]))) if len(rows[1]) else None
    some = rows[0][spread_rows(len(rows[0]), SHARE_CELLS)]
    return TrainingCells(train, held_out, edges.tolist(), groups, shares_of(shards, some, scales))


def shard_registry(
    model_cls: type[BaseModelClass],
    shards: ShardSet,
    phenotypes: Sequence[str],
    ordered: Ordered,
    missing: str | Sequence[str] | None = None,
) -> dict[str, Any]:
    """The registry that ``setup_anndata`` would make of all cells together.

    Parameters
    ----------
    model_cls
        Class of the model.
    shards
        The files.
    phenotypes
        Obs columns to learn.
    ordered
        Phenotypes whose categories have an order.
    missing
        Labels that mean "no value", see `missing_words`.
    """
    categories = {key: categories_of(shards.obs[key], missing_words(missing)) for key in phenotypes}
    warn_of_words({key: shards.obs[key] for key in phenotypes}, missing)
    return registry_of(
        model_cls,
        shards.n_obs,
        list(shards.var_names),
        categories,
        order=resolve_ordered(categories, ordered, shards.obs),
        layer=shards.layer,
        use_raw=shards.use_raw,
        ordered=ordered,
        missing=missing,
    )
