"""Find recorded phenotypes that the expression contradicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from anndata import AnnData
from mudata import MuData
from rich.console import Console

from polygene_scverse._constants import audit_key
from polygene_scverse._validate import (
    check_free,
    check_kwargs,
    check_notes,
    check_seed,
    check_whole,
    warn_once,
    write_notes,
)
from polygene_scverse.evaluation._audit import (
    check_samples,
    describe_audit,
    model_evidence,
    out_of_fold_evidence,
    sample_table,
)
from polygene_scverse.evaluation._folds import Labels, Training, resolve_columns, resolve_model_columns
from polygene_scverse.model import Polygene
from polygene_scverse.tl._models import anndata_of, check_unused, find


def audit(
    adata: AnnData | MuData,
    *,
    sample_key: str | None = None,
    group_key: str | None = None,
    phenotypes: str | Sequence[str] | None = None,
    n_folds: int = 4,
    max_epochs: int | None = None,
    model: Polygene | str | Path | None = None,
    layer: str | None = None,
    use_raw: bool = False,
    gene_symbols: str | None = None,
    gene_ids: str | None = None,
    mod: str | None = None,
    seed: int = 0,
    train_kwargs: Mapping[str, Any] | None = None,
) -> pd.DataFrame:
    """Find recorded phenotypes that the expression contradicts, such as swapped samples or a wrong sex.

    A model is trained for each fold and applied to the cells of the held-out groups, so no cell is assessed by a model
    that has seen it. Because wrong records are part of the training data of the other folds, this works only if few
    records are wrong: finding a swapped pair takes at least six samples, and more are better. If there are fewer, or if
    many records may be wrong, pass a `model` that was trained on other cells.

    Parameters
    ----------
    adata
        Cells with recorded phenotypes.
    sample_key
        Obs column of the samples. Phenotypes that are constant within samples are also assessed per sample; at least
        one must be. Without `sample_key`, only single cells are assessed, and the returned table is empty.
    group_key
        Obs column of groups that are kept in one fold. Pass the patient if there are several samples per patient, e.g.
        before and after treatment; otherwise a model can recognise the patient in another sample, whose label may be
        wrong. There must be as many patients as folds. By default `sample_key`; without either, single cells are split
        into folds.
    phenotypes
        Obs columns to assess, or phenotypes of `model`. By default, columns with a common name, or all phenotypes of
        `model` whose columns are in obs.
    n_folds
        Number of folds; one model is trained for each.
    max_epochs
        Number of passes over the training cells. Fewer are faster, but find fewer errors.
    model
        A model trained on other cells, or the folder it was saved to, to use instead of training. It cannot be combined
        with `group_key`, `n_folds`, `max_epochs`, `layer`, `use_raw` or `train_kwargs`.
    layer, use_raw
        Source of expression, as in :func:`~polygene_scverse.tl.train`. A trained model reads the source it was trained
        on.
    gene_symbols, gene_ids
        Columns of ``var`` with the gene names to use instead of ``var_names``, see :func:`~polygene_scverse.tl.train`;
        with `model`, they are tried before ``var_names``.
    mod
        Modality to use, for MuData; by default the one that the model was trained on, or ``"rna"``.
    seed
        Random seed for folds and trainings.
    train_kwargs
        Passed to :func:`~polygene_scverse.tl.train`, e.g. ``n_genes``, ``model_kwargs``.

    Returns
    -------
    Table with a row for each sample and each phenotype that is constant within samples, most contradicted first, and
    the columns ``sample``, ``phenotype``, ``recorded``, ``suggested`` (the category that fits best), ``score`` (mean
    over cells of the log-likelihood of the recorded category minus that of the best other category, in nats, relative
    to the midpoint between the other samples of the two categories; negative values contradict the record), ``share``
    (fraction of cells that contradict it), ``n_cells``, ``flagged`` (the score is below -0.1) and ``reliable`` (at most
    a third of the samples are flagged, or, with `model`, at least two thirds with 90 % of their cells and in more than
    one direction, as if all labels were swapped). If flags are not reliable, either the labels of many samples are
    wrong, or the expression does not predict the phenotype of new samples; if `model` is accurate on other data, the
    former is more likely. Likelihoods are probabilities divided by the category frequencies in training.

    Prints the flagged samples. Writes ``obs["polygene_audit_<phenotype>"]``, the probability of the recorded category
    of each cell (low values contradict it; NaN where no category is recorded or the model does not know it), and
    ``uns["polygene"]["audit"]``: this table, ``notes`` (the printed messages) and the phenotypes. Read it with
    :func:`~polygene_scverse.get.audit`.

    Raises
    ------
    KeyError
        If a column or modality does not exist.
    ValueError
        If no phenotype is constant within the samples, if there are fewer groups than folds, if training cells have
        only one category, if the model does not have a phenotype or knows none of its categories, or if an argument is
        passed that has no effect together with `model`.

    Examples
    --------
    >>> table = pgs.tl.audit(adata, sample_key="sample", group_key="donor", phenotypes=["sex", "disease"])
    >>> table[table["flagged"] & table["reliable"]]
    """
    trained = None if model is None else find(adata, model)
    data, gene_names = anndata_of(adata, mod, trained), {"gene_symbols": gene_symbols, "gene_ids": gene_ids}
    check_notes(data, "audit")
    check_whole(n_folds, "n_folds")
    check_seed(seed)
    given = check_kwargs(train_kwargs, "train_kwargs")
    if trained is not None:
        check_unused(
            group_key=group_key,
            n_folds=n_folds != 4,
            max_epochs=max_epochs,
            layer=layer,
            use_raw=use_raw,
            train_kwargs=train_kwargs,
        )
    group_key = sample_key if group_key is None else group_key
    if trained is None:
        names = resolve_columns(data, phenotypes, sample_key=sample_key, group_key=group_key)
        labels = {name: Labels.from_column(data.obs[name], None, given.get("missing")) for name in names}
    else:
        names = resolve_model_columns(data, trained, phenotypes, sample_key=sample_key)
        columns, known = trained.columns, trained.categories
        labels = {name: Labels.from_column(data.obs[columns[name]], known[name]) for name in names}
    check_free(data, "audit", map(audit_key, names), names)
    console = Console(soft_wrap=True, highlight=False)
    if only_cells := check_samples(labels, data.obs, sample_key):
        console.print(only_cells, markup=False)
    with warn_once():
        if trained is None:
            kwargs = {"max_epochs": max_epochs, "validation_size": 0, "layer": layer, "use_raw": use_raw}
            kwargs |= {**gene_names, **given}
            evidence = out_of_fold_evidence(data, labels, n_folds, Training(group_key, seed, kwargs))
        else:
            evidence = model_evidence(trained, data, labels, **gene_names)
    other_cells = trained is not None
    table = sample_table(labels, evidence, data.obs, sample_key, other_cells)
    sentences = describe_audit(table, other_cells)
    for name, label in labels.items():
        data.obs[audit_key(name)] = label.recorded_values(evidence[name].probabilities)
    notes = [only_cells] if only_cells else sentences
    write_notes(data, audit={"table": table, "notes": notes, "phenotypes": names, "sample_key": sample_key or ""})
    if sentences:
        console.print("\n".join(sentences), markup=False)
    return table.copy()
