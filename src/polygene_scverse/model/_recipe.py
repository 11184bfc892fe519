"""Training of a model from data in one call; expression is read once."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from mudata import MuData
from numpy.typing import NDArray

from polygene_scverse._compat import setup_args
from polygene_scverse._constants import N_GENES, RANK
from polygene_scverse._validate import check_kwargs, check_names, modality, shorten, warn
from polygene_scverse.abilities._rehearse import earlier_cells, missing_kinds, rehearsal_cells
from polygene_scverse.data.feed._rates import resolve_rates
from polygene_scverse.data.feed._table import CellTable
from polygene_scverse.data.read._expression import Expression, place_name
from polygene_scverse.data.read._gene_names import NOT_MATCHED
from polygene_scverse.data.read._ordered import Ordered, resolve_ordered
from polygene_scverse.data.read._phenotypes import (
    candidates,
    categories_of,
    encode_all,
    ordered_labels,
    resolve_phenotypes,
)
from polygene_scverse.data.read._ranking import choose_genes
from polygene_scverse.data.read._scale import Scale
from polygene_scverse.data.read._split import Split, resolve_split
from polygene_scverse.data.shards._feed import BUFFER_CELLS
from polygene_scverse.data.shards._files import Paths
from polygene_scverse.data.shards._shard_set import ShardSet
from polygene_scverse.data.shards._survey import survey
from polygene_scverse.engine import Engine
from polygene_scverse.model._growth import lost_by, with_rehearsal
from polygene_scverse.model._polygene import Polygene
from polygene_scverse.model.training._shards import read_shards, shard_registry
from polygene_scverse.model.training._training import train_model

__all__ = ["Decisions", "Ordered", "Paths", "ShardSet", "Split", "train_further", "train_on_cells", "train_on_files"]
MAX_HELD_OUT = 10_000
"""Maximum number of held-out cells from files that are kept in memory and validated on after each epoch."""
Rows = tuple[NDArray[np.int64], NDArray[np.int64]]


@dataclass(frozen=True)
class Decisions:
    """Decisions made before training, to be reported to the user.

    Parameters
    ----------
    model
        The untrained model.
    rows
        Row numbers of the training and of the held-out cells.
    codes
        Category codes of the training cells by phenotype, -1 where unknown; shape (n_train,) each.
    scale, where, n_vars
        Scale of expression, the place it is read from, and the number of genes there.
    added
        Additions to an earlier model: categories by phenotype, and ``genes``.
    n_rehearsed
        Number of cells drawn from the statistics that the earlier model stores.
    not_learned
        Columns that look like phenotypes but have no common name, if the phenotypes were not named.
    """

    model: Polygene
    rows: Rows
    codes: dict[str, NDArray[np.int64]]
    scale: Scale
    where: str
    n_vars: int
    added: Mapping[str, Sequence[str]] = field(default_factory=dict)
    n_rehearsed: int = 0
    not_learned: Sequence[str] = ()


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
    gene_symbols: str | None = None,
    gene_ids: str | None = None,
    mod: str = "rna",
    validation_size: float = 0.1,
    split: Split | None = None,
    seed: int = 0,
    tell: Tell | None = None,
    model_kwargs: Mapping[str, Any] | None = None,
    **train_kwargs: Any,
) -> Polygene:
    """Train on cells in memory or in a backed file; genes are ranked and bins defined on the training cells only.

    Parameters
    ----------
    adata
        Annotated data matrix; only the identifiers of scvi-tools are written to it.
    phenotypes, ordered, missing, group_key, n_genes, layer, use_raw, gene_symbols, gene_ids, validation_size, split, \
    seed, model_kwargs
        As in :func:`~polygene_scverse.tl.train`.
    mod
        Modality to read, for MuData.
    tell
        Called with the decisions before training starts.
    **train_kwargs
        As in `Polygene.train`.
    """
    rates = resolve_rates(train_kwargs.pop("masking", None))
    data = modality(adata, mod)
    names = resolve_phenotypes(data.obs, phenotypes)
    rows = resolve_split(data, group_key, validation_size, split, seed, names)
    expression = Expression.of(data, layer, use_raw).loaded().named_by(gene_symbols, gene_ids)
    var = data.raw.var if use_raw else data.var
    ranks = pd.Series(var[RANK].to_numpy(), index=expression.var_names) if RANK in var else None
    genes = choose_genes(expression, rows[0], n_genes, ranks=ranks, seed=seed)
    setup: dict[str, Any] = {"phenotype_keys": names, "layer": layer, "use_raw": use_raw}
    setup |= {"ordered": ordered, "missing": missing, "gene_symbols": gene_symbols, "gene_ids": gene_ids}
    if isinstance(adata, MuData):
        Polygene.setup_mudata(adata, mod=mod, **setup)
    else:
        Polygene.setup_anndata(adata, **setup)
    model = Polygene(adata, genes=genes, seed=seed, **check_kwargs(model_kwargs, "model_kwargs"))
    model.deregister_manager(adata)  # otherwise scvi-tools' registry of managers keeps adata in memory
    if tell is not None:
        codes = model.encode(data.obs.iloc[rows[0]])
        facts = (expression.scale, expression.where, len(expression.var_names))
        others = _not_learned(data.obs, phenotypes, [*names, group_key])
        tell(Decisions(model, rows, codes, *facts, not_learned=others))
    cells = model._training_cells(expression, rows, group_key)
    del expression
    train_model(model, cells, rates, seed=seed, **train_kwargs)
    return model


def _not_learned(obs: pd.DataFrame, phenotypes: str | Sequence[str] | None, used: Sequence[str | None]) -> list[str]:
    """Columns of text that look like phenotypes and are not used; none if the phenotypes were named."""
    if phenotypes is not None:
        return []
    found = [name for name in candidates(obs) if name not in used]
    return [name for name in found if not pd.api.types.is_numeric_dtype(obs[name].dtype)]


def train_further(
    adata: AnnData | MuData,
    model: Polygene,
    *,
    phenotypes: str | Sequence[str] | None = None,
    group_key: str | None = None,
    n_genes: int | None = None,
    layer: str | None = None,
    use_raw: bool = False,
    gene_symbols: str | None = None,
    gene_ids: str | None = None,
    mod: str | None = None,
    validation_size: float = 0.1,
    split: Split | None = None,
    seed: int = 0,
    tell: Tell | None = None,
    **train_kwargs: Any,
) -> Polygene:
    """Continue training a copy of a model, on cells that may have new categories, phenotypes and genes.

    If the cells include fewer cells of a combination of old categories than the model was trained on, the difference is
    drawn from the statistics that the model stores (see `rehearsal_cells`), to avoid forgetting. The linear path is
    fitted to stored moments of those training cells instead of the drawn cells (see `EarlierCells`).

    Parameters
    ----------
    adata
        Annotated data matrix; only the identifiers of scvi-tools are written to it.
    model
        The model; it is not changed.
    phenotypes
        Obs columns to learn in addition to those of the model.
    group_key, validation_size, split, seed
        As in :func:`~polygene_scverse.tl.train`.
    n_genes
        Number of genes of the result: if it exceeds that of the model, the most variable other genes are added. By
        default, the genes that a new model of these cells would have if the cells have old and new categories; else
        none are added, since their expression in the old cells is unknown.
    layer, use_raw
        Where to read expression; by default from the same place as the model.
    gene_symbols, gene_ids
        Columns of ``var`` with the gene names to use instead of ``var_names``.
    mod
        Modality to read, for MuData; by default that of the model.
    tell
        As in `train_on_cells`.
    **train_kwargs
        As in `Polygene.train`.

    Returns
    -------
    The trained model.

    Raises
    ------
    ValueError
        If the model is not trained, if it reads MuData and the data are not, or as for `train_on_cells`.
    """
    rates = resolve_rates(train_kwargs.pop("masking", None))
    if not model.is_trained_ or model.edges_ is None:
        raise ValueError("`model`: it is not trained. Train it first, or leave model= out.")
    model = copy.deepcopy(model.without_data())
    args = setup_args(model.registry)
    whole: AnnData | MuData = adata
    data = modality(adata, mod or model.modality)
    if args.get("mod") is None:
        whole = data
    elif whole is data:
        name = repr(model.modality)
        raise ValueError(f"`adata`: the model reads modality {name} of MuData. Pass MuData({{{name}: adata}}).")
    elif mod not in (None, model.modality):
        raise ValueError(f"`mod`: found {mod!r}, but the model reads modality {model.modality!r}. Leave it out.")
    if layer is None and not use_raw:  # the place the model reads, or X if that does not exist
        found = Expression.of_query(data, args["layer"], args["use_raw"])
        layer, use_raw = (None, False) if found.where == place_name(None, False) else (args["layer"], args["use_raw"])
    args.update(layer=layer, use_raw=use_raw)
    model, columns = _with_labels_of(model, data.obs, phenotypes)
    rows = resolve_split(data, group_key, validation_size, split, seed, columns)
    expression = Expression.of(data, layer, use_raw).loaded()
    if gene_symbols is None and gene_ids is None:
        expression = expression.named_by(*model._name_columns(data))
    expression = expression.matched(model._known_genes, gene_symbols=gene_symbols, gene_ids=gene_ids)
    codes = encode_all(data.obs, model._columns, model.missing)[0]
    rehearsed = _rehearsed(model, codes, seed)
    if n_genes is None and rehearsed is None and model.added_:  # adds genes that separate new categories
        n_genes = 0
    earlier = None if rehearsed is None else earlier_cells(Engine(model.module), model.fitted_, data.n_obs)
    genes = _more_genes(model, expression, data.raw.var if use_raw else data.var, rows[0], n_genes, seed)
    added = {"genes": genes, **{name: entry["categories"] for name, entry in model.added_.items()}}
    with model._growing(genes, seed):
        model._attach(whole)
        model.deregister_manager(whole)
        n_drawn = 0 if rehearsed is None else len(rehearsed)
        if tell is not None:
            facts = (expression.scale, expression.where, len(expression.var_names))
            tell(Decisions(model, rows, model.encode(data.obs.iloc[rows[0]]), *facts, added, n_drawn))
        cells = model._training_cells(expression, rows, group_key)
        del expression
        if rehearsed is not None:
            cells = with_rehearsal(cells, rehearsed, data.n_obs, seed=seed, earlier=earlier)
        try:
            train_model(model, cells, rates, seed=seed, **train_kwargs)
        finally:  # drawn cells have no row in the data
            for name in ("train_indices_", "validation_indices_"):
                if (ids := getattr(model, name, None)) is not None:
                    setattr(model, name, ids[ids < data.n_obs])
    return model


def _with_labels_of(
    model: Polygene, obs: pd.DataFrame, phenotypes: str | Sequence[str] | None
) -> tuple[Polygene, list[str]]:
    """A copy of the model with the additional categories and phenotypes of some cells, and the obs columns it reads."""
    names = [] if phenotypes is None else check_names(phenotypes, "phenotypes")
    new = [name for name in names if name not in [*model._columns, *model.added_]]
    if new:
        resolve_phenotypes(obs, new)
    waiting = [name for name in model.added_ if name not in model.columns]
    for name, column in {**model.columns, **dict(zip(waiting, waiting, strict=True))}.items():
        if column not in obs.columns:
            continue
        known = [*model.categories.get(name, []), *model.added_.get(name, {}).get("categories", [])]
        if found := [label for label in ordered_labels(obs[column], model.missing) if label not in known]:
            model = model.add_categories(name, found)
    for name in new:
        found = categories_of(obs[name], model.missing)
        model = model.add_phenotype(name, found, ordered=name in resolve_ordered({name: found}, None, obs))
    return model, [*model._columns, *waiting, *new]


def _more_genes(
    model: Polygene, expression: Expression, var: pd.DataFrame, rows: NDArray[np.int64], n_genes: int | None, seed: int
) -> list[str]:
    """The most variable genes that a model does not have, up to `n_genes` genes in total.

    With 0, all genes that a new model of the same size would have; with None, no genes.
    """
    n_more = len(model.genes) if n_genes == 0 else (n_genes or 0) - len(model.genes)
    if n_more <= 0:
        return []
    ranks = pd.Series(var[RANK].to_numpy(), index=expression.var_names) if RANK in var else None
    every = choose_genes(expression, rows, len(model.genes) if n_genes == 0 else 2**31, ranks=ranks, seed=seed)
    taken = {*model.genes, *(name for name in every if name.endswith(NOT_MATCHED))}
    return [gene for gene in every if gene not in taken][:n_more]


def _rehearsed(model: Polygene, codes: NDArray[np.int64], seed: int) -> CellTable | None:
    """Draw cells for the old combinations that new cells lack, None if none; warns about what will be forgotten."""
    engine, state = Engine(model.module), model.fitted_
    found = missing_kinds(state, codes)
    if found is None:
        for name, labels in lost_by(state.category_counts, codes, model.categories).items():
            warn(
                f"`adata`: no cell has the {name} {shorten(labels)}, and the model cannot generate such cells, "
                "because its training data were not counts or it was saved by an earlier version, so it will forget "
                "them. Pass old and new cells, such as anndata.concat([old, new])."
            )
        return None
    kinds, n_cells = found
    return rehearsal_cells(engine, state, kinds, n_cells, np.array(model.edges_), seed) if len(kinds) else None


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
    """Train on files that need not fit into memory: they are read once to rank genes, then once per epoch.

    Parameters
    ----------
    shards
        The files.
    phenotypes, ordered, missing, group_key, n_genes, validation_size, split, seed, model_kwargs
        As in :func:`~polygene_scverse.tl.train`.
    buffer_cells
        Number of cells that are in memory and shuffled together.
    tell
        As in `train_on_cells`.
    **train_kwargs
        As in `Polygene.train`.

    Returns
    -------
    The trained model, without data. At most `MAX_HELD_OUT` randomly drawn held-out cells are used for validation.

    Raises
    ------
    KeyError, ValueError
        As for `tl.train`; the error names the file.
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
    model = Polygene(None, registry, genes=genes, **{"seed": seed, **check_kwargs(model_kwargs, "model_kwargs")})
    if tell is not None:
        others = _not_learned(shards.obs, phenotypes, [*names, group_key])
        codes = model.encode(shards.obs.iloc[rows[0]])
        tell(Decisions(model, rows, codes, scales[0], shards.where, shards.n_vars, not_learned=others))
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
    return model.without_data()  # and without the trainer, which refers to the cells
