"""Evaluate the model and baselines: training, test, scores and a description in sentences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray

from polygene_scverse.data.read._phenotypes import ordered_labels
from polygene_scverse.evaluation._folds import Labels, Split, Training, group_codes, make_folds, resolve_model_columns
from polygene_scverse.evaluation._null import null_rows
from polygene_scverse.evaluation._predictions import predict_folds, predict_with
from polygene_scverse.evaluation._scores import group_rows, score_rows
from polygene_scverse.evaluation._verdict import describe_evaluation, describe_model
from polygene_scverse.model import Polygene


@dataclass(frozen=True)
class Evaluation:
    """Scores of the model and of baselines.

    Parameters
    ----------
    table
        A row per phenotype, method and score.
    by_group
        Scores in each test group; empty without groups.
    sentences
        Description of the table.
    folds
        Fold in which each cell is tested, -1 for none; shape (n_obs,).
    """

    table: pd.DataFrame
    by_group: pd.DataFrame
    sentences: list[str]
    folds: NDArray[np.int64]


def evaluate_folds(
    adata: AnnData,
    phenotypes: Sequence[str],
    split: Split,
    training: Training,
    baselines: Sequence[str],
    n_bootstrap: int,
    n_null: int,
) -> Evaluation:
    """Train and test in each fold, and score the predictions of all folds together.

    The arguments are those of :func:`~polygene_scverse.tl.evaluate`.
    """
    group_key, seed = training.group_key, training.seed
    labels = {name: Labels.from_column(adata.obs[name], missing=training.kwargs.get("missing")) for name in phenotypes}
    folds, groups = make_folds(adata.obs, group_key, split, labels, seed), group_codes(adata.obs, group_key)
    predictions = predict_folds(adata, folds, labels, training, baselines)
    tested_groups = None if group_key is None else groups
    rows = [row for name in labels for row in score_rows(name, predictions[name], tested_groups, n_bootstrap, seed)]
    constant = {n: label for n, label in labels.items() if group_key is not None and label.constant_within(groups)}
    table = pd.DataFrame(rows + null_rows(adata, folds, constant, training, n_null))
    by_group = [] if group_key is None else group_rows(predictions, groups, adata.obs[group_key])
    tested = np.full(adata.n_obs, -1)
    for i, (_, test_rows) in enumerate(folds):
        tested[test_rows] = i
    sentences = describe_evaluation(table, predictions, labels, groups, group_key, list(constant))
    return Evaluation(table, pd.DataFrame(by_group), sentences, tested)


def evaluate_model(
    adata: AnnData,
    model: Polygene,
    phenotypes: str | Sequence[str] | None,
    group_key: str | None,
    n_bootstrap: int,
    seed: int,
    **gene_names: Any,
) -> Evaluation:
    """Score the predictions of a trained model, compared with the shares of categories in its training.

    Parameters
    ----------
    adata
        The cells.
    model
        The model.
    phenotypes
        Names of its phenotypes; by default those whose columns are in ``obs``.
    group_key, n_bootstrap, seed
        As for :func:`~polygene_scverse.tl.evaluate`.
    **gene_names
        ``gene_symbols`` and ``gene_ids`` of :meth:`~polygene_scverse.model.Polygene.predict_phenotype`.
    """
    names = resolve_model_columns(adata, model, phenotypes, group_key=group_key)
    labels = {n: Labels.from_column(adata.obs[model.columns[n]], model.categories[n]) for n in names}
    columns = {n: adata.obs[model.columns[n]] for n in names}
    recorded = {n: Labels.from_column(column, ordered_labels(column, model.missing)) for n, column in columns.items()}
    groups, predictions = group_codes(adata.obs, group_key), predict_with(model, adata, labels, **gene_names)
    tested_groups = None if group_key is None else groups
    rows = [row for name in labels for row in score_rows(name, predictions[name], tested_groups, n_bootstrap, seed)]
    by_group = [] if group_key is None else group_rows(predictions, groups, adata.obs[group_key])
    sentences = describe_model(predictions, recorded, groups, group_key)
    tested = np.zeros(adata.n_obs, dtype=np.int64)
    return Evaluation(pd.DataFrame(rows), pd.DataFrame(by_group), sentences, tested)
