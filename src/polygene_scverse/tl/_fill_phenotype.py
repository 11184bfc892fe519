"""Fill missing values of obs columns, in new columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from mudata import MuData

from polygene_scverse._constants import BALANCE, filled_key, filled_probability_key, note_key
from polygene_scverse._validate import (
    check_choice,
    check_free,
    check_names,
    check_notes,
    check_some,
    notes_of,
    shorten,
    warn_once,
    write_notes,
)
from polygene_scverse.get._lookup import recorded_labels
from polygene_scverse.model import Polygene
from polygene_scverse.tl._models import cells_and_model


def fill_phenotype(
    adata: AnnData | MuData,
    *,
    phenotypes: str | Sequence[str] | None = None,
    given: str | Sequence[str] | None = None,
    balance: float = BALANCE,
    model: Polygene | str | Path | None = None,
    gene_symbols: str | None = None,
    gene_ids: str | None = None,
    mod: str | None = None,
    batch_size: int = 128,
) -> None:
    """Predict the missing values of recorded phenotypes.

    The other recorded phenotypes of a cell are shown to the model as evidence. Recorded values are not changed.

    Parameters
    ----------
    adata
        Cells with missing phenotypes. Genes are matched by name.
    phenotypes
        Phenotypes to fill; by default all phenotypes of the model. A column that is not in obs counts as missing in all
        cells.
    given
        Phenotypes to show as evidence for the others, ``[]`` for none. By default all phenotypes of the model that are
        in obs.
    balance
        How a category is chosen, as in :func:`~polygene_scverse.tl.predict_phenotype`.
    model
        A model, or the folder it was saved to. By default the one last trained on `adata`.
    gene_symbols, gene_ids
        Columns of ``var`` with gene symbols or Ensembl ids, tried before ``var_names``, see
        :meth:`~polygene_scverse.model.Polygene.gene_names`.
    mod
        Modality to use, for MuData; by default the one that the model was trained on, or ``"rna"``.
    batch_size
        Number of cells per step.

    Returns
    -------
    None. For each phenotype, writes ``obs["polygene_<phenotype>_filled"]``, the recorded category or, if it is missing,
    the predicted one; ``obs["polygene_<phenotype>_filled_probability"]``, the probability of the predicted category,
    NaN where the category is recorded; and ``uns["polygene"]["fill"]``, the phenotypes that were shown as evidence.

    Raises
    ------
    ValueError
        If no model is found, if the model does not have a phenotype, if no gene matches, or if expression has the wrong
        scale.
    KeyError
        If a phenotype in `given` is not an obs column.

    Examples
    --------
    >>> pgs.tl.fill_phenotype(adata, phenotypes="sex")
    >>> adata.obs.loc[adata.obs["sex"].isna(), ["polygene_sex_filled", "polygene_sex_filled_probability"]]
    """
    data, trained = cells_and_model(adata, model, mod)
    check_notes(data, "fill")
    names = list(trained.categories) if phenotypes is None else check_some(phenotypes, "phenotypes")
    columns = trained.columns
    recorded = [name for name, column in columns.items() if column in data.obs]
    evidence = recorded if given is None else check_names(given, "given")
    for argument, wanted in (("phenotypes", names), ("given", evidence)):
        for name in wanted:
            check_choice(name, list(trained.categories), argument)
    if absent := [columns[name] for name in evidence if name not in recorded]:
        raise KeyError(f"`given`: {shorten(absent)} are not columns of adata.obs. Pass recorded phenotypes.")
    keys = [key(name) for name in names for key in (filled_key, filled_probability_key)]
    check_free(data, "fill_phenotype", keys, trained.categories)
    found = {}
    with warn_once():
        for name in names:
            shown = [other for other in evidence if other != name]
            asked = {"given": shown, "gene_symbols": gene_symbols, "gene_ids": gene_ids, "batch_size": batch_size}
            found[name] = (shown, *_fill(trained, data, name, balance, asked))
    noted = dict(notes_of(data).get("fill", {}))
    for name, (shown, labels, probability) in found.items():
        data.obs[filled_key(name)] = labels
        data.obs[filled_probability_key(name)] = probability
        noted[note_key(name)] = shown
    write_notes(data, fill=noted)


def _fill(
    model: Polygene, data: AnnData, name: str, balance: float, asked: Mapping[str, Any]
) -> tuple[pd.Categorical, np.ndarray]:
    """Category of each cell, and its probability where the category is not recorded; shape (n_obs,) each."""
    blank = pd.Series(None, index=data.obs_names, dtype=object)
    column, known = model.columns[name], model.categories[name]
    labels = recorded_labels(data.obs[column], known, model.missing) if column in data.obs else blank
    probability = np.full(data.n_obs, np.nan)
    rows = np.flatnonzero(labels.isna())
    if len(rows):
        tables = model.predict_phenotype(data, phenotypes=name, indices=rows.tolist(), **asked)
        chosen = model.decide(tables, balance=balance)[name]
        labels.iloc[rows] = chosen.astype(object).to_numpy()
        probability[rows] = tables[name].to_numpy()[np.arange(len(rows)), chosen.cat.codes]
    return pd.Categorical(labels, categories=[*known, *sorted(set(labels) - set(known))]), probability
