"""From data to a trained model in one call; expression is read once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from anndata import AnnData
from mudata import MuData
from numpy.typing import NDArray

from polygene_scverse._constants import N_GENES, RANK
from polygene_scverse.data.feed._rates import resolve_rates
from polygene_scverse.data.read._expression import Expression
from polygene_scverse.data.read._ordered import Ordered
from polygene_scverse.data.read._phenotypes import resolve_phenotypes
from polygene_scverse.data.read._ranking import choose_genes
from polygene_scverse.data.read._scale import Scale
from polygene_scverse.data.read._split import Split, resolve_split
from polygene_scverse.data.shards._feed import BUFFER_CELLS
from polygene_scverse.data.shards._files import Paths
from polygene_scverse.data.shards._shard_set import ShardSet
from polygene_scverse.data.shards._survey import survey
from polygene_scverse.model._polygene import Polygene
from polygene_scverse.model.training._shards import read_shards, shard_registry
from polygene_scverse.model.training._training import train_model

__all__ = ["Decisions", "Ordered", "Paths", "ShardSet", "Split", "train_on_cells", "train_on_files"]
MAX_HELD_OUT = 10_000
"""Held-out cells of files that are kept in memory and looked at after each epoch."""
Rows = tuple[NDArray[np.int64], NDArray[np.int64]]


@dataclass(frozen=True)
class Decisions:
    """What was decided before a training, to be told to the user.

    Parameters
    ----------
    model
        The model, not trained yet.
    rows
        Row numbers of the training and of the held-out cells.
    codes
        Category codes of the training cells by phenotype, -1 where unknown; shape (n_train,) each.
    scale, where, n_vars
        Scale of expression, where it is read from, and the number of genes there.
    """

    model: Polygene
    rows: Rows
    codes: dict[str, NDArray[np.int64]]
    scale: Scale
    where: str
    n_vars: int


Tell = Callable[[Decisions], None]


def train_on_cells(
    adata: AnnData | MuData,
    *,
    phenotypes: str | Sequence[str] | None = None,
    ordered: Ordered = None,
    missing: str | Sequence[str] | None = None,
    group_key: str | None = None,
    n_genes: int = N_GENES,
    layer: str | None = None,
    use_raw: bool = False,
    mod: str | None = None,
    validation_size: float = 0.1,
    split: Split | None = None,
    seed: int = 0,
    tell: Tell | None = None,
    model_kwargs: Mapping[str, Any] | None = None,
    **train_kwargs: Any,
) -> Polygene:
    """Train on cells in memory or in a backed file; genes are ranked and bins cut on the training cells only.

    Parameters
    ----------
    adata
        The cells; only scvi-tools' identifiers are written.
    phenotypes, ordered, missing, group_key, n_genes, layer, use_raw, validation_size, split, seed, model_kwargs
        As of :func:`~polygene_scverse.tl.train`.
    mod
        Modality to read, for MuData.
    tell
        Called with what was decided, before the training begins.
    **train_kwargs
        As of `Polygene.train`.
    """
    rates = resolve_rates(train_kwargs.pop("masking", None))
    data = adata.mod[mod] if mod is not None and isinstance(adata, MuData) else adata
    names = resolve_phenotypes(data.obs, phenotypes)
    rows = resolve_split(data, group_key, validation_size, split, seed, names)
    expression = Expression.of(data, layer, use_raw).loaded()
    var = data.raw.var if use_raw else data.var
    genes = choose_genes(expression, rows[0], n_genes, ranks=var.get(RANK), seed=seed)
    setup: dict[str, Any] = {"phenotype_keys": names, "layer": layer, "use_raw": use_raw}
    setup |= {"ordered": ordered, "missing": missing}
    if isinstance(adata, MuData):
        Polygene.setup_mudata(adata, mod=mod or "rna", **setup)
    else:
        Polygene.setup_anndata(adata, **setup)
    model = Polygene(adata, genes=genes, seed=seed, **(model_kwargs or {}))
    model.deregister_manager(adata)  # scvi-tools' list of all that was set up would keep adata in memory
    if tell is not None:
        codes = model.encode(data.obs.iloc[rows[0]])
        tell(Decisions(model, rows, codes, expression.scale, expression.where, len(expression.var_names)))
    cells = model._training_cells(expression, rows, group_key)
    del expression
    train_model(model, cells, rates, seed=seed, **train_kwargs)
    return model


def train_on_files(
    shards: ShardSet,
    *,
    phenotypes: str | Sequence[str] | None = None,
    ordered: Ordered = None,
    missing: str | Sequence[str] | None = None,
    group_key: str | None = None,
    n_genes: int = N_GENES,
    validation_size: float = 0.1,
    split: Split | None = None,
    seed: int = 0,
    buffer_cells: int = BUFFER_CELLS,
    tell: Tell | None = None,
    model_kwargs: Mapping[str, Any] | None = None,
    **train_kwargs: Any,
) -> Polygene:
    """Train on files that need not fit into memory: they are read once to rank genes, then once for each epoch.

    Parameters
    ----------
    shards
        The files.
    phenotypes, ordered, missing, group_key, n_genes, validation_size, split, seed, model_kwargs
        As of :func:`~polygene_scverse.tl.train`.
    buffer_cells
        Cells that are in memory and shuffled together.
    tell
        As of `train_on_cells`.
    **train_kwargs
        As of `Polygene.train`.

    Returns
    -------
    The trained model, without data. Of the held-out cells at most `MAX_HELD_OUT`, drawn at random, are looked at.

    Raises
    ------
    KeyError, ValueError
        As for `tl.train`; the file is named.
    """
    rates = resolve_rates(train_kwargs.pop("masking", None))
    whole = group_key in shards.obs and shards.obs[group_key].nunique(dropna=False) * validation_size >= 1.0
    share = validation_size if whole else min(validation_size, MAX_HELD_OUT / shards.n_obs)
    names = resolve_phenotypes(shards.obs, phenotypes)
    rows = resolve_split(shards, group_key, share, split, seed, names)
    held_out = rows[1]
    if len(held_out) > MAX_HELD_OUT:
        held_out = np.sort(np.random.default_rng(0).choice(held_out, MAX_HELD_OUT, replace=False))
    genes, scales = survey(shards, rows[0], n_genes)
    registry = shard_registry(Polygene, shards, names, ordered, missing)
    model = Polygene(None, registry, genes=genes, **{"seed": seed, **(model_kwargs or {})})
    if tell is not None:
        tell(Decisions(model, rows, model.encode(shards.obs.iloc[rows[0]]), scales[0], shards.where, shards.n_vars))
    cells = read_shards(
        shards,
        (rows[0], held_out),
        model.layout,
        model._columns,
        scales,
        binning=model.binning_,
        groups=None if group_key is None else shards.obs[group_key],
        buffer_cells=buffer_cells,
    )
    train_model(model, cells, rates, seed=seed, **train_kwargs)
    return model.without_data()  # nor the trainer, which holds the cells
