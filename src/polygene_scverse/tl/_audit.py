"""Recorded phenotypes that the expression contradicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from anndata import AnnData
from rich.console import Console

from polygene_scverse._constants import audit_key
from polygene_scverse._validate import check_choice, check_free, check_notes, check_writable, write_notes
from polygene_scverse.evaluation._audit import describe_audit, model_evidence, out_of_fold_evidence, sample_table
from polygene_scverse.evaluation._folds import Labels, Training, resolve_columns
from polygene_scverse.model import Polygene
from polygene_scverse.tl._models import find


def audit(
    adata: AnnData,
    *,
    sample_key: str | None = None,
    group_key: str | None = None,
    phenotypes: str | Sequence[str] | None = None,
    n_folds: int = 4,
    max_epochs: int | None = None,
    seed: int = 0,
    model: Polygene | str | Path | None = None,
    train_kwargs: Mapping[str, Any] | None = None,
) -> pd.DataFrame:
    """Find recorded phenotypes that the expression contradicts: swapped samples, a wrong sex, a wrong tissue.

    Each cell is judged by a model that has not seen it, nor any cell of its group: one is trained for each fold. What
    is wrong in the records is in the training of the others, so that a few errors are found, not many.

    Parameters
    ----------
    adata
        Cells with recorded phenotypes.
    sample_key
        Obs column of the samples whose records may be swapped. Phenotypes that are constant within them are judged per
        sample as well.
    group_key
        Obs column whose groups stay whole in a fold, e.g. donors who gave several samples. By default `sample_key`;
        with neither, folds are of single cells.
    phenotypes
        Obs columns to judge. By default those with a usual name.
    n_folds
        Number of folds, and of trainings.
    max_epochs
        Number of passes over the training cells; fewer are faster and find less.
    seed
        Seed of folds and trainings.
    model
        A model trained on other cells, or its folder: it is used as it is, and nothing is trained.
    train_kwargs
        Passed to :func:`~polygene_scverse.tl.train`, e.g. ``layer``, ``gene_symbols``.

    Returns
    -------
    A row for each sample and phenotype that is constant within samples, most contradicted first, with the columns
    ``sample``, ``phenotype``, ``recorded``, ``suggested`` (the category that fits best), ``score`` (mean over cells of
    the log-likelihood of the recorded category minus that of the best other one, in nats, above the middle between the
    other samples recorded as the one and as the other: negative speaks against the record), ``share`` (of cells that
    speak against it), ``n_cells``, ``flagged`` (the score is below -0.1) and
    ``reliable`` (at most a third of the samples are flagged: else the expression does not tell the phenotype of new
    samples, and flags mean nothing). Likelihoods are probabilities over the categories' shares of the training cells.

    Prints which samples are flagged. Writes ``obs["polygene_audit_<phenotype>"]``, the probability of the recorded
    category of each cell (low values contradict; NaN where none is recorded or the model does not know it), and
    ``uns["polygene"]["audit"]``: this table, ``words`` and the phenotypes. Read it with
    :func:`~polygene_scverse.get.audit`.

    Raises
    ------
    KeyError
        If a column does not exist.
    ValueError
        If there are fewer groups than folds, if training cells have one category only, or if a phenotype is not the
        model's.

    Examples
    --------
    >>> table = pgs.tl.audit(adata, sample_key="sample", group_key="donor", phenotypes=["sex", "disease"])
    >>> table[table["flagged"] & table["reliable"]]
    """
    check_writable(adata)
    check_notes(adata, "audit")
    group_key = sample_key if group_key is None else group_key
    names = resolve_columns(adata, phenotypes, sample_key=sample_key, group_key=group_key)
    check_free(adata, "audit", map(audit_key, names), names)
    if model is None:
        labels = {
            name: Labels.from_column(adata.obs[name], missing=(train_kwargs or {}).get("missing")) for name in names
        }
        kwargs = {"max_epochs": max_epochs, "validation_size": 0, **(train_kwargs or {})}
        evidence = out_of_fold_evidence(adata, labels, n_folds, Training(group_key, seed, kwargs))
    else:
        trained = find(adata, model)
        for name in names:
            check_choice(name, trained.layout.phenotype_names, "phenotypes")
        labels = {name: Labels.from_column(adata.obs[name], trained.categories[name]) for name in names}
        evidence = model_evidence(trained, adata, labels)
    table = sample_table(labels, evidence, adata.obs, sample_key)
    sentences = describe_audit(table, sample_key)
    for name, label in labels.items():
        adata.obs[audit_key(name)] = label.recorded_values(evidence[name].probabilities)
    stored = {"table": table, "words": sentences, "phenotypes": names, "sample_key": sample_key or ""}
    write_notes(adata, audit=stored)
    Console(soft_wrap=True, highlight=False).print("\n".join(sentences), markup=False)
    return table.copy()
