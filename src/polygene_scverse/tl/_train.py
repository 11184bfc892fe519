"""Train on an AnnData with one call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from mudata import MuData
from rich.console import Console
from rich.table import Table

from polygene_scverse._constants import N_GENES, note_key
from polygene_scverse._validate import check_notes, shorten, write_notes
from polygene_scverse.model import Polygene
from polygene_scverse.model._recipe import (
    Decisions,
    Ordered,
    Paths,
    ShardSet,
    Split,
    train_further,
    train_on_cells,
    train_on_files,
)
from polygene_scverse.model.training._arguments import resolve_seed
from polygene_scverse.model.training._final_scores import final_sentences
from polygene_scverse.tl._confounded import note_confounding
from polygene_scverse.tl._models import anndata_of, find, remember


def train(
    adata: AnnData | MuData | Paths,
    *,
    phenotypes: str | Sequence[str] | None = None,
    ordered: Ordered = None,
    missing: str | Sequence[str] | None = None,
    group_key: str | None = None,
    n_genes: int | None = None,
    model: Polygene | str | Path | None = None,
    layer: str | None = None,
    use_raw: bool = False,
    gene_symbols: str | None = None,
    gene_ids: str | None = None,
    mod: str = "rna",
    validation_size: float = 0.1,
    split: Split | None = None,
    max_epochs: int | None = None,
    seed: int | None = None,
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
    missing
        Labels that mean "no value", besides NaN, None, empty text and, whatever their case, "unknown", "unassigned",
        "nan", "n/a" and "<NA>"; an empty list keeps every label. "none" and "NA" are labels unless they are named here.
    group_key
        Obs column of the groups (donors, samples) that cells come from. Probabilities and prediction sets then say how
        sure the model may be of new groups, judged by predicting the training groups from each other. Whole groups are
        held out for validation where `validation_size` is one group or more, of ten or more by default, and where that
        leaves some cells of every category; of fewer groups all are in training, and cells are held out. Warns of
        phenotypes that it alone determines, see :func:`~polygene_scverse.pp.confounding`.
    n_genes
        Number of genes, 3,000 by default, the most variable first; if there are ranks in
        ``var["highly_variable_rank"]``, they decide. With `model` that model's genes, and if the cells have old
        and new categories, those that a new model of as many genes would have; if more are asked for, the most variable
        others are added.
    model
        A model, or the folder it was saved to, that is trained further; it stays as it is. What the cells have more is
        added: categories of its phenotypes that they are labelled with, phenotypes that `phenotypes` names beside its
        own, and genes. What it knows is kept: where these cells have fewer of its categories than its own training
        cells had, cells are drawn from what it keeps of those, see :meth:`~polygene_scverse.tl.generate`, so that old
        cells are not needed. If they are at hand, ``anndata.concat([old, new])`` is better still.
    layer
        Layer to read instead of ``X``; stored with the model.
    use_raw
        Whether to read ``adata.raw`` instead; stored with the model.
    gene_symbols, gene_ids
        Column of ``var`` that genes are called by, instead of ``var_names``; stored with the model. With `model` the
        genes are matched to its own by it.
    mod
        Modality to read, for MuData.
    validation_size
        Share of the cells, or groups, to hold out for the figures in ``history_``; 0 for none. Curves of phenotypes are
        those of the transformer, by epoch; names that end in ``_final`` are scores of the finished model.
    split
        Row numbers of the training and of the validation cells, instead of a draw.
    max_epochs
        Number of passes over the training cells. By default so many that about 50,000 cells, or 5 million of
        their expressed genes, are seen.
    seed
        Seed of weights, split, order and masks: the same seed gives the same model on the same machine. By default
        ``scvi.settings.seed``, or 0.
    save_to
        Folder to save the model to; noted in ``uns``, so that other verbs find it.
    verbose
        Whether to say what was decided, to show progress, and to say in the end how well the finished model predicts
        each phenotype of the held-out cells.
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
        counts per 10,000, or if a side of the split is empty; if `model` comes with what it decides itself.
    TypeError
        If files are passed together with `model`.

    Examples
    --------
    >>> import polygene_scverse as pgs
    >>> adata = pgs.datasets.pbmc68k()
    >>> model = pgs.tl.train(adata)
    >>> model = pgs.tl.train("shard_{0..46}.h5ad", group_key="donor")
    >>> larger = pgs.tl.train(new_cells, model=model)
    """
    decided: list[Decisions] = []
    reports: list[pd.DataFrame] = []

    def tell(decisions: Decisions) -> None:
        decided.append(decisions)
        reports.append(note_confounding(decisions.model, obs, group_key, missing))
        if verbose:
            _print_decisions(decisions, None if group_key is None else obs[group_key])

    seed = resolve_seed(seed)
    old = None if model is None else find(AnnData(), model)
    fixed = {"ordered": ordered, "missing": missing, "model_kwargs": model_kwargs}
    if old is not None and (given := [name for name, value in fixed.items() if value is not None]):
        raise ValueError(f"`{given[0]}`: with model= it is that of the model. Leave it out.")
    common: dict[str, Any] = {
        "phenotypes": phenotypes,
        "group_key": group_key,
        "validation_size": validation_size,
        "split": split,
        "max_epochs": max_epochs,
        "seed": seed,
        "tell": tell,
        "enable_progress_bar": verbose,
    }
    if old is None:
        common |= {**fixed, "n_genes": N_GENES if n_genes is None else n_genes}
    if not isinstance(adata, (AnnData, MuData)):
        if old is not None:
            raise TypeError("`model`: files cannot be trained on further. Pass AnnData, which may be backed by a file.")
        if gene_symbols is not None or gene_ids is not None:
            raise ValueError("`gene_symbols`: genes of files are matched by var_names. Set these in the files.")
        shards = ShardSet.open(adata, phenotypes, group_key, layer, use_raw)
        obs = shards.obs
        trained = train_on_files(shards, **common | train_kwargs)
        if save_to is not None:
            trained.save(save_to, overwrite=True)
        if verbose:
            _print_scores(trained)
        return trained
    check_notes(adata, "train")
    obs = anndata_of(adata, mod).obs
    try:
        common |= {"layer": layer, "use_raw": use_raw, "gene_symbols": gene_symbols, "gene_ids": gene_ids}
        common |= {"mod": mod, **train_kwargs}
        if old is None:
            trained = train_on_cells(adata, **common)
        else:
            trained = train_further(adata, old, n_genes=n_genes, **common)
    finally:  # after an interruption other verbs find what was learned so far
        if decided and decided[0].model.is_trained_:
            remember(adata, decided[0].model)
    if save_to is not None:
        trained.save(save_to, overwrite=True)
    if verbose:
        _print_scores(trained)
        for name, entry in trained.calibration_.items():
            Console().print(f"{name}: {entry['words']}", markup=False, highlight=False)
    folder = "" if save_to is None else str(Path(save_to).absolute())
    record = _record(trained, decided[0].rows[1], str(decided[0].scale), seed, folder)
    record |= {"confounding": reports[0]} if len(reports[0]) else {}
    write_notes(adata, train=record)
    return trained


def _print_decisions(decisions: Decisions, groups: pd.Series | None) -> None:
    """Say in a table what was decided."""
    model, (training, held_out) = decisions.model, decisions.rows
    console, table = Console(), Table("decided", "", title="Polygene", show_header=False)
    kind = "cells"
    if groups is not None:
        shared = groups.iloc[held_out].isin(groups.iloc[training]).any() or not len(held_out)
        kind += f"; all {groups.nunique()} groups of {groups.name!r} are in training" if shared else ""
        kind += "" if shared else f" of whole groups of {groups.name!r}"
    table.add_row("training cells", f"{len(training):,}; held out for validation: {len(held_out):,} {kind}")
    table.add_row("expression", f"{decisions.where}, read as {decisions.scale}")
    n_genes, n_bins = model.layout.n_genes, model.layout.n_bins
    table.add_row("genes", f"{n_genes:,} of {decisions.n_vars:,}, in {n_bins} expression bins")
    for name, categories in model.categories.items():
        known = int((decisions.codes[name] >= 0).sum())
        text = f"{len(categories)} categories {shorten(categories, 4)}, known for {known:,} training cells"
        table.add_row(f"phenotype {name}", text)
    for name, new in decisions.added.items():
        if new:
            table.add_row(f"added {name}", f"{len(new)}: {shorten(new, 4)}")
    if decisions.n_rehearsed:
        table.add_row("rehearsal", f"{decisions.n_rehearsed:,} cells drawn from what the model keeps of earlier ones")
    config = model.module.config
    n_weights = sum(p.numel() for p in model.module.parameters())
    text = f"{config.n_layers} layers, {config.n_hidden} hidden, {config.n_heads} heads: {n_weights:,} weights"
    table.add_row("network", text)
    console.print(table)


def _print_scores(model: Polygene) -> None:
    """Say how well the finished model predicts the held-out cells."""
    for sentence in final_sentences(model.history_, list(model.layout.phenotype_names)):
        Console().print(sentence, markup=False, highlight=False)


def _record(model: Polygene, validation: np.ndarray, scale: str, seed: int, folder: str) -> dict[str, Any]:
    """Plain values for ``uns``, which h5ad can hold."""
    # aligned by epoch: a metric may be computed in some epochs only
    history = pd.DataFrame({name: table.iloc[:, 0] for name, table in (model.history_ or {}).items()})
    return {
        "phenotypes": list(model.layout.phenotype_names),
        "categories": {note_key(name): list(categories) for name, categories in model.categories.items()},
        "n_genes": model.layout.n_genes,
        "n_bins": model.layout.n_bins,
        "scale": scale,
        "seed": seed,
        "network": model.module.config.to_dict(),
        "validation": validation,
        "history": history.astype(float).rename(columns=note_key),  # as a table it keeps its order on disk
        "folder": folder,
        "versions": {name: version(name) for name in ("polygene-scverse", "scvi-tools", "torch")},
    }
