"""Predict phenotypes and write them to obs and obsm."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from anndata import AnnData
from mudata import MuData

from polygene_scverse._constants import (
    BALANCE,
    UNASSIGNED,
    confidence_key,
    expected_key,
    note_key,
    prediction_key,
    probability_key,
    set_key,
)
from polygene_scverse._validate import (
    check_fraction,
    check_free,
    check_names,
    check_notes,
    colors_of_labels,
    notes_of,
    shorten,
    write_notes,
)
from polygene_scverse.model import Polygene
from polygene_scverse.tl._models import cells_and_model

NOT_CALIBRATED = "temperature 1: the model was not calibrated; call Polygene.calibrate"
GREY = "#d3d3d3"


def predict_phenotype(
    adata: AnnData | MuData,
    *,
    phenotypes: str | Sequence[str] | None = None,
    given: str | Sequence[str] | None = None,
    balance: float = BALANCE,
    coverage: float | None = None,
    by_category: bool = False,
    min_confidence: float | None = None,
    model: Polygene | str | Path | None = None,
    gene_symbols: str | None = None,
    gene_ids: str | None = None,
    mod: str | None = None,
    batch_size: int = 128,
) -> None:
    """Predict the phenotypes of cells.

    Recorded phenotypes of a cell are not shown to the model unless they are named in `given`.

    Parameters
    ----------
    adata
        Cells to predict. Genes are matched by name; unmeasured genes are left out.
    phenotypes
        Phenotypes to predict; by default all phenotypes of the model.
    given
        Phenotypes to show to the model as evidence, in cells where they are known.
    balance
        How a category is chosen: the one with the highest probability / (fraction of the training cells) ** `balance`.
        With 0 this is the most probable category; the default finds more cells of rare categories at little cost in
        accuracy. Probabilities do not depend on it.
    coverage
        Coverage of the prediction sets: the fraction of cells, such as 0.9, whose true category should be in their set.
        By default no sets are computed. The coverage holds for cells like those the model was calibrated on, see
        ``uns["polygene"]["calibration"]``, and :meth:`~polygene_scverse.model.Polygene.prediction_sets`.
    by_category
        Whether the coverage should hold within each category instead of over all cells.
    min_confidence
        Cells with a lower confidence are labelled "unassigned". By default every cell gets a category.
    model
        A model, or the folder it was saved to. By default the one last trained on `adata`.
    gene_symbols, gene_ids
        Columns of ``var`` with gene symbols or Ensembl ids, tried before ``var_names``. By default, genes are matched
        by name, then by common columns such as ``var["gene_ids"]``, then from symbols to Ensembl ids, see
        :meth:`~polygene_scverse.model.Polygene.gene_names`.
    mod
        Modality to use, for MuData; by default the one that the model was trained on, or ``"rna"``.
    batch_size
        Number of cells per step.

    Returns
    -------
    None. For each phenotype, writes the chosen category ``obs["polygene_<phenotype>"]``, its probability
    ``obs["polygene_<phenotype>_confidence"]``, the probabilities of all categories
    ``obsm["polygene_<phenotype>_proba"]`` (n_obs x n_categories) and their names ``uns["polygene"]["predict"]`` (read
    both with ``pgs.get.probabilities``), the obs column that has the recorded categories as
    ``uns["polygene"]["columns"]``, `balance` as ``uns["polygene"]["balance"]``, a description of the calibration as
    ``uns["polygene"]["calibration"]``, and, if ``uns`` has colours for the recorded categories, the same colours for
    the predicted ones. For ordered phenotypes with numeric categories, also writes the expected value
    ``obs["polygene_<phenotype>_expected"]``. With `coverage` also the prediction sets
    ``obsm["polygene_<phenotype>_set"]`` (n_obs x n_categories, True where a category is in the set; read with
    ``pgs.get.prediction_sets``) and `coverage` as ``uns["polygene"]["coverage"]``.

    Raises
    ------
    ValueError
        If no model is found, if `balance`, `coverage` or `min_confidence` is not between 0 and 1, if a category is
        called "unassigned" and `min_confidence` is passed, if the model does not have a phenotype, if no gene matches,
        or if expression has the wrong scale.

    Examples
    --------
    >>> pgs.tl.predict_phenotype(adata, coverage=0.9)
    >>> pgs.get.predictions(adata, "cell_type")
    """
    data, trained = cells_and_model(adata, model, mod)
    check_notes(data, "predict", "columns", "calibration", "coverage")
    if by_category and coverage is None:
        raise ValueError("`by_category`: it applies to prediction sets only. Pass coverage= as well, such as 0.9.")
    if min_confidence is not None:
        check_fraction(min_confidence, "min_confidence")
    names = list(trained.categories) if phenotypes is None else check_names(phenotypes, "phenotypes")
    keys = [key(name) for name in names for key in (prediction_key, confidence_key, expected_key)]
    check_free(data, "predict_phenotype", keys, trained.categories)
    if min_confidence is not None and (taken := [n for n in names if UNASSIGNED in trained.categories.get(n, ())]):
        raise ValueError(
            f"`min_confidence`: cells below it are labelled {UNASSIGNED!r}, which is a category of {shorten(taken)}. "
            "Leave it out, or name other phenotypes."
        )
    tables = trained.predict_phenotype(
        data, phenotypes=phenotypes, given=given, gene_symbols=gene_symbols, gene_ids=gene_ids, batch_size=batch_size
    )
    chosen = trained.decide(tables, balance=balance)
    sets = {}
    if coverage is not None:
        sets = trained.prediction_sets(
            tables,
            coverage=coverage,
            by_category=by_category,
            adata=data,
            gene_symbols=gene_symbols,
            gene_ids=gene_ids,
        )
    before = notes_of(data)
    written = ("predict", "columns", "calibration", "coverage")
    notes: dict[str, dict] = {key: dict(before.get(key, {})) for key in written}
    for name, table in tables.items():
        _write(data, name, table, chosen[name].array, min_confidence)
        _keep_colors(data, name, trained.columns[name])
        _write_set(data, name, sets.get(name))
        key = note_key(name)
        notes["predict"][key] = list(table.columns)
        notes["columns"][key] = trained.columns[name]
        notes["calibration"][key] = trained.calibration_.get(name, {}).get("note", NOT_CALIBRATED)
        notes["coverage"].pop(key, None)
        if name in sets:
            notes["coverage"][key] = coverage
    expected = trained.expected_value(tables)
    for name in tables:
        if name in expected:
            data.obs[expected_key(name)] = expected[name].to_numpy()
        elif expected_key(name) in data.obs:  # of an earlier prediction
            del data.obs[expected_key(name)]
    write_notes(data, **notes, balance=balance)


def _write(data: AnnData, name: str, table: pd.DataFrame, chosen: pd.Categorical, min_confidence: float | None) -> None:
    """Write the chosen category, confidence and probabilities of one phenotype."""
    confidence = table.to_numpy()[np.arange(len(chosen)), chosen.codes]
    if min_confidence is not None:
        chosen = chosen.add_categories([UNASSIGNED])
        chosen[confidence < min_confidence] = UNASSIGNED
    data.obs[prediction_key(name)] = chosen
    data.obs[confidence_key(name)] = confidence
    data.obsm[probability_key(name)] = table.to_numpy()


def _write_set(data: AnnData, name: str, table: pd.DataFrame | None) -> None:
    """Write the prediction sets of one phenotype, or remove those of an earlier prediction."""
    if table is not None:
        data.obsm[set_key(name)] = table.to_numpy()
    elif set_key(name) in data.obsm:
        del data.obsm[set_key(name)]


def _keep_colors(data: AnnData, name: str, column: str) -> None:
    """Give predicted categories the colours of the recorded ones, in `column`."""
    colors = data.uns.get(f"{column}_colors")
    if colors is None or column not in data.obs:
        return
    recorded = colors_of_labels(data.obs[column], colors)
    recorded[UNASSIGNED] = GREY
    categories = data.obs[prediction_key(name)].cat.categories
    if set(categories) <= set(recorded):
        data.uns[f"{prediction_key(name)}_colors"] = [recorded[category] for category in categories]
