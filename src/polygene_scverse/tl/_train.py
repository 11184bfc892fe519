"""Train on an AnnData with one call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from mudata import MuData
from rich.console import Console
from rich.table import Table

from polygene_scverse._constants import N_GENES, RANK, UNS
from polygene_scverse._validate import shorten
from polygene_scverse.data.read._binning import detect_scale
from polygene_scverse.data.read._ordered import Ordered
from polygene_scverse.data.read._phenotypes import resolve_phenotypes
from polygene_scverse.data.read._ranking import genes_by_rank, rank_genes
from polygene_scverse.data.read._source import expression, iterate_rows, other_places, place
from polygene_scverse.data.read._split import Split, resolve_split
from polygene_scverse.data.shards._files import Paths
from polygene_scverse.data.shards._shard_set import ShardSet
from polygene_scverse.model import Polygene
from polygene_scverse.tl._confounded import note_confounding
from polygene_scverse.tl._models import anndata_of, remember
from polygene_scverse.tl._train_shards import held_out_share, train_shards


def train(
    adata: AnnData | MuData | Paths,
    *,
    phenotypes: str | Sequence[str] | None = None,
    ordered: Ordered = None,
    group_key: str | None = None,
    n_genes: int = N_GENES,
    layer: str | None = None,
    use_raw: bool = False,
    mod: str = "rna",
    validation_size: float = 0.1,
    split: Split | None = None,
    max_epochs: int | None = None,
    seed: int = 0,
    save_to: str | Path | None = None,
    verbose: bool = True,
    model_kwargs: Mapping[str, Any] | None = None,
    **train_kwargs: Any,
) -> Polygene:
    """Train a model on cells with known phenotypes.

    Genes are ranked and bins are cut on the training cells only; validation cells are not seen by either.

    Paths in place of AnnData train on files that need not fit into memory. They are read once to check expression and
    to rank genes by mean and variance over all training cells, then in each epoch in buffers of blocks of cells from
    all files. Genes are matched by name; a gene that a file lacks is unmeasured in its cells, not zero. Bin edges come
    from the cells of one buffer, at most 10,000 held-out cells are looked at, and where a buffer holds all training
    cells the result is that of training in memory.

    Parameters
    ----------
    adata
        Annotated data matrix with raw counts or log1p of counts per 10,000; which, is detected. Or h5ad files or zarr
        stores: a path, a pattern such as ``"shard_{0..46}.h5ad"`` or ``"shards/*.h5ad"``, or a list of them.
    phenotypes
        Obs columns to learn. By default those with a usual name, such as ``cell_type``, ``tissue`` or ``disease``.
        Missing values are welcome.
    ordered
        Phenotypes whose categories have an order, such as ages: a list of names, or a mapping from names to categories
        in order. By default ordered categoricals; see :meth:`~polygene_scverse.model.Polygene.setup_anndata`.
    group_key
        Obs column whose groups (donors, samples) are held out as a whole for validation, as new donors will be. At
        least one is: of few groups that is a large part, and without `group_key` the model may predict better.
        Warns of phenotypes that it alone determines, see :func:`~polygene_scverse.pp.confounding`.
    n_genes
        Number of genes, 3,000 by default, the most variable first; if there are ranks in
        ``var["highly_variable_rank"]``, they decide.
    layer
        Layer to read instead of ``X``; stored with the model.
    use_raw
        Whether to read ``adata.raw`` instead; stored with the model.
    mod
        Modality to read, for MuData.
    validation_size
        Share of the cells, or groups, to hold out for the figures in ``history_``; 0 for none.
    split
        Row numbers of the training and of the validation cells, instead of a draw.
    max_epochs
        Number of passes over the training cells. By default so many that about 50,000 cells, or 5 million of
        their expressed genes, are seen.
    seed
        Seed of weights, split, order and masks: the same seed gives the same model on the same machine.
    save_to
        Folder to save the model to; noted in ``uns``, so that other verbs find it.
    verbose
        Whether to say what was decided and to show progress.
    model_kwargs
        Passed to :class:`~polygene_scverse.model.Polygene`, e.g. ``size``, ``n_bins``, ``binning``.
    **train_kwargs
        Passed to :meth:`~polygene_scverse.model.Polygene.train`, e.g. ``batch_size``, ``masking``, ``plan_kwargs``,
        ``early_stopping``, ``accelerator``, ``checkpoints``. With files ``buffer_cells`` (65,536): cells that are
        shuffled together; two buffers are in memory at a time, about 10 bytes for each expressed gene.

    Returns
    -------
    The trained model. Writes ``uns["polygene"]["train"]`` and scvi-tools' identifiers ``uns["_scvi_*"]``. A model
    trained on files holds no data, and nothing is written into them.

    Raises
    ------
    KeyError
        If a named column, layer or modality does not exist.
    FileNotFoundError
        If a file is not there, or none matches a pattern.
    ValueError
        If no phenotype is found, if one has fewer than two categories, if expression is neither raw counts nor log1p of
        counts per 10,000, or if a side of the split is empty.

    Examples
    --------
    >>> import polygene_scverse as pgs
    >>> adata = pgs.datasets.pbmc68k()
    >>> model = pgs.tl.train(adata)
    >>> model = pgs.tl.train("shard_{0..46}.h5ad", group_key="donor")
    """
    if not isinstance(adata, (AnnData, MuData)):
        shards = ShardSet.open(adata, phenotypes, group_key, layer, use_raw)
        rows = resolve_split(shards, group_key, held_out_share(shards.n_obs, validation_size, group_key), split, seed)
        model = train_shards(
            shards,
            rows,
            phenotypes,
            n_genes,
            group_key=group_key,
            say=partial(_say, shards, rows, shards.place, group_key) if verbose else None,
            model_kwargs={"seed": seed, "ordered": ordered, **(model_kwargs or {})},
            train_kwargs={"max_epochs": max_epochs, "seed": seed, "enable_progress_bar": verbose} | train_kwargs,
        )
        if save_to is not None:
            model.save(save_to, overwrite=True)
        return model
    data = anndata_of(adata, mod)
    if data.is_view:
        raise ValueError("`adata`: found a view of another AnnData, which cannot be registered. Pass adata.copy().")
    names = resolve_phenotypes(data.obs, phenotypes)
    rows = resolve_split(data, group_key, validation_size, split, seed)
    genes, scale = _genes(data, rows[0], n_genes, layer, use_raw, seed)
    setup, extra = (Polygene.setup_mudata, {"mod": mod}) if isinstance(adata, MuData) else (Polygene.setup_anndata, {})
    setup(adata, phenotype_keys=names, layer=layer, use_raw=use_raw, ordered=ordered, **extra)
    model = Polygene(adata, genes=genes, seed=seed, **(model_kwargs or {}))
    model.deregister_manager(adata)  # scvi-tools' list of all that was set up would keep adata in memory
    confounded = note_confounding(model, data, names, group_key)
    if verbose:
        _say(data, rows, place(layer, use_raw), group_key, model, scale)
    try:
        model.train(
            split=rows if len(rows[1]) else None,
            validation_size=0.0,
            group_key=group_key if len(rows[1]) else None,
            max_epochs=max_epochs,
            seed=seed,
            **({"enable_progress_bar": verbose} | train_kwargs),
        )
    finally:  # after an interruption other verbs find what was learned so far
        if model.is_trained_:
            remember(adata, model)
    if save_to is not None:
        model.save(save_to, overwrite=True)
    if verbose:
        for name, entry in model.calibration_.items():
            Console().print(f"{name}: {entry['words']}", markup=False, highlight=False)
    note = _note(model, rows[1], scale, seed, "" if save_to is None else str(Path(save_to).absolute()))
    note |= {"confounding": confounded} if len(confounded) else {}
    adata.uns[UNS] = {**adata.uns.get(UNS, {}), "train": note}
    return model


def _genes(
    data: AnnData, rows: np.ndarray, n_genes: int, layer: str | None, use_raw: bool, seed: int
) -> tuple[list[str], str]:
    """Genes by the ranks in var, else ranked on the training cells; and the scale of the data."""
    x, var_names = expression(data, layer, use_raw)
    where = place(layer, use_raw)
    every = np.arange(data.n_obs)
    scale = detect_scale((b.data for b in iterate_rows(x, every)), where, other_places(data, where))
    var = data.raw.var if use_raw else data.var
    ranks = var[RANK] if RANK in var else rank_genes(x, var_names, rows, scale, seed=seed)
    return genes_by_rank(ranks, n_genes), scale


def _say(
    data: AnnData | ShardSet,
    rows: tuple[np.ndarray, np.ndarray],
    where: str,
    group_key: str | None,
    model: Polygene,
    scale: str,
) -> None:
    """Say in a table what was decided."""
    console, table = Console(), Table("decided", "", title="Polygene", show_header=False)
    held_out = "cells" if group_key is None else f"cells of whole groups of {group_key!r}"
    table.add_row("training cells", f"{len(rows[0]):,}; held out for validation: {len(rows[1]):,} {held_out}")
    table.add_row("expression", f"{where}, read as {scale}")
    table.add_row("genes", f"{model.layout.n_genes:,} of {data.n_vars:,}, in {model.layout.n_bins} expression bins")
    for name, categories in model.categories.items():
        known = int((model.codes(rows[0])[name] >= 0).sum())
        text = f"{len(categories)} categories {shorten(categories, 4)}, known for {known:,} training cells"
        table.add_row(f"phenotype {name}", text)
    config = model.module.config
    n_weights = sum(p.numel() for p in model.module.parameters())
    text = f"{config.n_layers} layers, {config.n_hidden} hidden, {config.n_heads} heads: {n_weights:,} weights"
    table.add_row("network", text)
    console.print(table)


def _note(model: Polygene, validation: np.ndarray, scale: str, seed: int, folder: str) -> dict[str, Any]:
    """Plain values for ``uns``, which h5ad can hold."""
    # aligned by epoch: a metric may be computed in some epochs only
    history = pd.DataFrame({name: table.iloc[:, 0] for name, table in (model.history_ or {}).items()})
    return {
        "phenotypes": list(model.layout.phenotype_names),
        "categories": {name: list(categories) for name, categories in model.categories.items()},
        "n_genes": model.layout.n_genes,
        "n_bins": model.layout.n_bins,
        "scale": scale,
        "seed": seed,
        "network": model.module.config.to_dict(),
        "validation": validation,
        "history": {name: history[name].to_numpy(dtype=float) for name in history},
        "folder": folder,
        "versions": {name: version(name) for name in ("polygene-scverse", "scvi-tools", "torch")},
    }
