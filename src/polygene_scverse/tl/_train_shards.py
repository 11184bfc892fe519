"""Train on files that need not fit into memory; `train` comes here when it is given paths."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from polygene_scverse.data.read._phenotypes import resolve_phenotypes
from polygene_scverse.data.shards._feed import BUFFER_CELLS
from polygene_scverse.data.shards._shard_set import ShardSet
from polygene_scverse.data.shards._survey import survey
from polygene_scverse.model import Polygene
from polygene_scverse.model._shards import ShardPolygene
from polygene_scverse.tl._confounded import note_confounding

MOST_HELD_OUT = 10_000
"""Held-out cells that are kept in memory and looked at after each epoch."""

RowPair = tuple[np.ndarray, np.ndarray]


def held_out_share(n_obs: int, validation_size: float, group_key: str | None) -> float:
    """Share of the cells to hold out, so that they are no more than `MOST_HELD_OUT`; groups stay whole."""
    return validation_size if group_key is not None else min(validation_size, MOST_HELD_OUT / n_obs)


def train_shards(
    shards: ShardSet,
    rows: RowPair,
    phenotypes: str | Sequence[str] | None,
    n_genes: int,
    *,
    group_key: str | None = None,
    say: Callable[[Polygene, str], None] | None = None,
    model_kwargs: Mapping[str, Any] | None = None,
    train_kwargs: Mapping[str, Any] | None = None,
) -> Polygene:
    """Read all files once to rank genes, then train.

    Parameters
    ----------
    shards
        The files.
    rows
        Numbers of the training and of the held-out cells.
    phenotypes
        Obs columns to learn; by default those with a usual name.
    n_genes
        Number of genes.
    group_key
        Obs column whose groups must not be on both sides; warns of phenotypes that it determines.
    say
        Called with the model and the scale of the data before training.
    model_kwargs
        Passed to :class:`~polygene_scverse.model.Polygene`.
    train_kwargs
        Passed to :meth:`~polygene_scverse.model.Polygene.train`; ``buffer_cells`` is taken out.

    Returns
    -------
    The trained model, without data. Of the held-out cells at most `MOST_HELD_OUT`, drawn at random, are looked at.

    Raises
    ------
    KeyError, ValueError
        As for `train`; the file is named.
    """
    fit = dict(train_kwargs or {})
    buffer_cells = int(fit.pop("buffer_cells", BUFFER_CELLS))
    training, held_out = rows
    if len(held_out) > MOST_HELD_OUT:
        held_out = np.sort(np.random.default_rng(0).choice(held_out, MOST_HELD_OUT, replace=False))
    names = resolve_phenotypes(shards.obs, phenotypes)
    genes, scale = survey(shards, training, n_genes)
    model = ShardPolygene.of_files(shards, names, genes, scale, buffer_cells, **(model_kwargs or {}))
    note_confounding(model, shards, names, group_key)  # type: ignore[arg-type]  # it looks at obs alone
    if say is not None:
        say(model, scale)
    validated = len(held_out) > 0
    split = (training, held_out) if validated else None
    model.train(split=split, validation_size=0.0, group_key=group_key if validated else None, **fit)
    plain = model.without_data()
    plain.train_indices, plain.validation_indices = model.train_indices, model.validation_indices
    return plain
