"""Train a model on AnnData or on files."""

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

from polygene_scverse._compat import identifiers_restored
from polygene_scverse._constants import N_GENES, note_key
from polygene_scverse._files import check_destination
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
from polygene_scverse.tl._models import anndata_of, find, name_of_modality, remember


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
    mod: str | None = None,
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

    Genes are ranked and expression bins are computed on the training cells only, not on validation cells.

    If paths are passed instead of AnnData, cells are streamed from files that need not fit into memory. The files are
    read once to check expression and to rank genes by mean and variance over all training cells, and then once per
    epoch, in buffers of blocks of cells from all files. Genes are matched by name; genes missing from a file are
    treated as unmeasured in its cells, not as zero. Bin edges are computed from the cells of one buffer, and at most
    10,000 held-out cells are used for validation. If one buffer holds all training cells, the result equals that of
    training in memory.

    Parameters
    ----------
    adata
        Annotated data matrix with raw counts or log-normalised values; the scale is auto-detected. Alternatively h5ad
        files or zarr stores: a path, a pattern such as ``"shard_{0..46}.h5ad"`` or ``"shards/*.h5ad"``, or a list of
        them.
    phenotypes
        Obs columns to learn. By default, columns with a common name such as ``cell_type``, ``tissue`` or ``disease``.
        Missing values are allowed.
    ordered
        Phenotypes whose categories have an order, such as ages: a list of names, or a mapping from names to categories
        in order. By default, ordered categoricals; see :meth:`~polygene_scverse.model.Polygene.setup_anndata`.
    missing
        Labels that are read as missing, in addition to NaN, None, empty strings, and "unknown", "unassigned", "nan",
        "n/a" and "<NA>" in any case; an empty list keeps every label. "none" and "NA" are labels unless they are listed
        here.
    group_key
        Obs column of the groups (donors, samples) that cells come from. Probabilities and prediction sets are then
        calibrated for new groups, by predicting the training groups from each other. Whole groups are held out for
        validation if `validation_size` amounts to at least one group (with the default, ten groups or more) and if some
        cells of every category remain for training. With fewer groups all of them are used in training, and single
        cells are held out. Warns about phenotypes that are determined by the group, see
        :func:`~polygene_scverse.pp.confounding`.
    n_genes
        Number of genes, 3,000 by default. The most variable genes are used, or the first ones by
        ``var["highly_variable_rank"]`` if that column exists. With `model`, the genes of that model are kept; if the
        cells have old and new categories, the genes that a new model of the same size would select are added, and if
        `n_genes` is larger, the most variable remaining genes too.
    model
        A model, or the folder it was saved to, to train further. The model itself is not changed. New categories in
        `adata`, additional `phenotypes` and genes are added. To limit forgetting, cells are generated from the
        statistics that the model stores (see :func:`~polygene_scverse.tl.generate`) for categories that have fewer
        cells in `adata` than in the original training data, so the old cells are not needed. If you have them, training
        on ``anndata.concat([old, new])`` is better.
    layer
        Layer to use instead of ``X``; stored with the model.
    use_raw
        Whether to use ``adata.raw`` instead of ``X``; stored with the model.
    gene_symbols, gene_ids
        Column of ``var`` with the gene names to use instead of ``var_names``; stored with the model. With `model`,
        genes are matched to those of the model by this column.
    mod
        Modality to use, for MuData; by default that of `model` or of the last training, or ``"rna"``. Stored with the
        model.
    validation_size
        Fraction of the cells, or groups, to hold out for validation; 0 for none. Their scores are in ``history_``:
        phenotype scores by epoch are those of the transformer, and those whose name ends in ``_final`` are those of the
        finished model.
    split
        Row numbers of the training and of the validation cells, instead of a random split.
    max_epochs
        Number of passes over the training cells. By default, enough to process about 25,000 cells or 2.5 million
        expressed genes.
    seed
        Random seed for weights, split, order of cells and masks; the same seed gives the same model on the same
        machine. By default ``scvi.settings.seed``, or 0.
    save_to
        Folder to save the model to. It is recorded in ``uns``, so that other functions find the model.
    verbose
        Whether to print the chosen settings, a progress bar, and the accuracy of the finished model on the held-out
        cells.
    model_kwargs
        Passed to :class:`~polygene_scverse.model.Polygene`, e.g. ``size``, ``n_bins``, ``binning``.
    **train_kwargs
        Passed to :meth:`~polygene_scverse.model.Polygene.train`, e.g. ``batch_size``, ``masking``, ``plan_kwargs``,
        ``early_stopping``, ``accelerator``, ``checkpoints``. With files also ``buffer_cells`` (65,536), the number of
        cells that are shuffled together; two buffers are in memory at a time, with about 10 bytes per expressed gene.

    Returns
    -------
    The trained model. Writes ``uns["polygene"]["train"]`` and the identifiers of scvi-tools, ``uns["_scvi_*"]``; for
    MuData both are in the ``uns`` of the whole object, where scvi-tools keeps them. Files are never changed, and a
    model trained on files holds no data.

    Raises
    ------
    KeyError
        If a column, layer or modality does not exist.
    FileNotFoundError
        If a file does not exist, or no file matches a pattern.
    ValueError
        If no phenotype is found or one has fewer than two categories, if expression is neither raw counts nor
        log-normalised, if either side of the split is empty, or if an argument that `model` determines is passed
        together with it.
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
    if save_to is not None:
        check_destination(save_to, "save_to")
    old = None if model is None else find(AnnData(), model)
    fixed = {"ordered": ordered, "missing": missing, "model_kwargs": model_kwargs}
    if old is not None and (given := [name for name, value in fixed.items() if value is not None]):
        raise ValueError(f"`{given[0]}`: passed together with model=, which determines it. Leave it out.")
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
            raise TypeError(
                "`model`: a model cannot be trained further on files. Pass AnnData, which may be backed by a file."
            )
        for argument, value in {"gene_symbols": gene_symbols, "gene_ids": gene_ids}.items():
            if value is not None:
                raise ValueError(
                    f"`{argument}`: passed together with files, whose genes are matched by var_names. Set "
                    "var_names in the files instead."
                )
        shards = ShardSet.open(adata, phenotypes, group_key, layer, use_raw)
        obs = shards.obs
        trained = train_on_files(shards, **common | train_kwargs)
        if save_to is not None:
            trained.save(save_to, overwrite=True)
        if verbose:
            _print_scores(trained)
        return trained
    check_notes(adata, "train")
    mod = name_of_modality(adata, mod, old)
    obs = anndata_of(adata, mod).obs
    common |= {"layer": layer, "use_raw": use_raw, "gene_symbols": gene_symbols, "gene_ids": gene_ids}
    common |= {"mod": mod, **train_kwargs}
    try:
        with identifiers_restored(adata):
            if old is None:
                trained = train_on_cells(adata, **common)
            else:
                trained = train_further(adata, old, n_genes=n_genes, **common)
    finally:  # after an interruption, other functions find what was learned so far
        if decided and decided[0].model.is_trained_:
            remember(adata, decided[0].model)
    if save_to is not None:
        trained.save(save_to, overwrite=True)
    if verbose:
        _print_scores(trained)
        for name, entry in trained.calibration_.items():
            Console().print(f"{name}: {entry['note']}", markup=False, highlight=False)
    folder = "" if save_to is None else str(Path(save_to).absolute())
    record = _record(trained, decided[0].rows[1], str(decided[0].scale), seed, folder)
    record |= {"confounding": reports[0]} if len(reports[0]) else {}
    record |= {"mod": mod} if isinstance(adata, MuData) else {}
    write_notes(adata, train=record)
    return trained


def _print_decisions(decisions: Decisions, groups: pd.Series | None) -> None:
    """Print the chosen settings as a table."""
    model, (training, held_out) = decisions.model, decisions.rows
    console, table = Console(markup=False), Table("decided", "", title="Polygene", show_header=False)
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
    if decisions.not_learned:
        text = f"{shorten(decisions.not_learned, 6)}; name the columns to learn in phenotypes="
        table.add_row("not learned", text)
    for name, new in decisions.added.items():
        if new:
            table.add_row(f"added {name}", f"{len(new)}: {shorten(new, 4)}")
    if decisions.n_rehearsed:
        table.add_row(
            "generated cells", f"{decisions.n_rehearsed:,}, generated by the model for categories with few cells here"
        )
    config = model.module.config
    n_weights = sum(p.numel() for p in model.module.parameters())
    text = f"{config.n_layers} layers, {config.n_hidden} hidden, {config.n_heads} heads: {n_weights:,} weights"
    table.add_row("network", text)
    console.print(table)


def _print_scores(model: Polygene) -> None:
    """Print the scores of the finished model on the held-out cells."""
    for sentence in final_sentences(model.history_, list(model.layout.phenotype_names)):
        Console().print(sentence, markup=False, highlight=False)


def _record(model: Polygene, validation: np.ndarray, scale: str, seed: int, folder: str) -> dict[str, Any]:
    """Plain values for ``uns``, which h5ad supports."""
    # aligned by epoch, as some metrics are not computed in every epoch
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
        "history": history.astype(float).rename(columns=note_key),  # a table keeps its order on disk
        "folder": folder,
        "versions": {name: version(name) for name in ("polygene-scverse", "scvi-tools", "torch")},
    }
