"""Predictions of several methods for cells that were not used in training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray

from polygene_scverse.evaluation._baselines import baseline_probabilities
from polygene_scverse.evaluation._features import read_features
from polygene_scverse.evaluation._folds import (
    Codes,
    Fold,
    Labels,
    Training,
    copy_cells,
    fill_columns,
    group_codes,
    train_fold,
)
from polygene_scverse.evaluation._scikit_learn import MAJORITY
from polygene_scverse.model import Polygene

MODEL = "Polygene"


@dataclass(frozen=True)
class Predictions:
    """Predictions of several methods for one phenotype of the test cells.

    Parameters
    ----------
    rows
        Row numbers of the cells; shape (n_test,).
    codes
        True categories, -1 where unknown or not in the training cells; shape (n_test,).
    probabilities
        Probabilities by method; shape (n_test, n_categories).
    predicted
        Category chosen by each method; shape (n_test,).
    """

    rows: NDArray[np.int64]
    codes: Codes
    probabilities: dict[str, NDArray[np.float64]]
    predicted: dict[str, Codes]

    @classmethod
    def allocate(cls, label: Labels, folds: Sequence[Fold], methods: Sequence[str]) -> Predictions:
        """Allocate arrays for the test cells of all folds, one fold after the other; predictions are not filled in."""
        rows = np.concatenate([test for _, test in folds])
        seen = np.concatenate([np.isin(label.codes[test], label.codes[train]) for train, test in folds])
        probabilities = {method: np.zeros((len(rows), len(label.categories))) for method in methods}
        predicted = {method: np.zeros(len(rows), dtype=np.int64) for method in methods}
        return cls(rows, np.where(seen, label.codes[rows], -1), probabilities, predicted)

    def fill(
        self, method: str, start: int, probabilities: NDArray[np.floating], predicted: NDArray[np.integer]
    ) -> None:
        """Fill in the predictions of a method for a fold, whose first cell has index `start`."""
        self.probabilities[method][start : start + len(predicted)] = probabilities
        self.predicted[method][start : start + len(predicted)] = predicted

    def take(self, cells: NDArray[np.integer] | NDArray[np.bool_]) -> Predictions:
        """Return a subset of the cells."""
        probabilities = {method: values[cells] for method, values in self.probabilities.items()}
        predicted = {method: codes[cells] for method, codes in self.predicted.items()}
        return Predictions(self.rows[cells], self.codes[cells], probabilities, predicted)

    def known(self) -> Predictions:
        """Return the cells whose category is known and was in training."""
        return self.take(self.codes >= 0)


def predict_folds(
    adata: AnnData, folds: Sequence[Fold], labels: Mapping[str, Labels], training: Training, baselines: Sequence[str]
) -> dict[str, Predictions]:
    """Train the model and baselines on the training cells of each fold, and predict its test cells.

    Parameters
    ----------
    adata
        The cells.
    folds
        Training and test rows.
    labels
        Labels of each phenotype as recorded in ``obs``.
    training
        Training settings of the model. Baselines use the same expression and seed.
    baselines
        Names of the baselines to run.

    Returns
    -------
    Predictions for the test cells of all folds, by phenotype.
    """
    predictions = {name: Predictions.allocate(label, folds, [MODEL, *baselines]) for name, label in labels.items()}
    groups = None if training.group_key is None else group_codes(adata.obs, training.group_key)
    where = {"layer": training.kwargs.get("layer"), "use_raw": training.kwargs.get("use_raw", False)}
    start = 0
    n_models = len(folds) * (1 + len(baselines) * len(labels))
    with training.progress("models", n_models) as advance:
        for train_rows, test_rows in folds:
            model, train_cells = train_fold(adata, train_rows, list(labels), training)
            advance(1)
            test_cells = copy_cells(adata, test_rows)
            tables = model.predict_phenotype(test_cells)
            decided = model.decide(tables)
            if baselines:
                train, test = (read_features(model, cells, **where) for cells in (train_cells, test_cells))
                train_groups = None if groups is None else groups[train_rows]
            for name, label in labels.items():
                found, codes, n_categories = predictions[name], label.codes[train_rows], len(label.categories)
                predicted = pd.Index(label.categories).get_indexer(pd.Index(decided[name].astype(str)))
                found.fill(MODEL, start, fill_columns(tables[name], label.categories), predicted)
                for method in baselines:
                    fitted_to = (train, codes, train_groups)
                    values = baseline_probabilities(method, *fitted_to, test, n_categories, training.seed)
                    found.fill(method, start, values, values.argmax(axis=1))
                    advance(1)
            start += len(test_rows)
    return predictions


def predict_with(
    model: Polygene, adata: AnnData, labels: Mapping[str, Labels], **gene_names: Any
) -> dict[str, Predictions]:
    """Predict cells with a trained model, and with the shares of categories among its training cells.

    Parameters
    ----------
    model
        The model.
    adata
        The cells.
    labels
        Labels of each phenotype to predict, with the model's categories.
    **gene_names
        ``gene_symbols`` and ``gene_ids`` of :meth:`~polygene_scverse.model.Polygene.predict_phenotype`.

    Returns
    -------
    Predictions by phenotype; without those from shares if the model does not store the counts of its categories.
    """
    tables = model.predict_phenotype(adata, phenotypes=list(labels), **gene_names)
    decided, rows, found = model.decide(tables), np.arange(adata.n_obs), {}
    counts = dict(zip(model.layout.phenotype_names, model.fitted_.category_counts, strict=False))
    for name, label in labels.items():
        seen, codes = counts.get(name, np.zeros(0)), label.codes
        probabilities = {MODEL: tables[name].to_numpy().astype(np.float64)}
        predicted = {MODEL: decided[name].cat.codes.to_numpy().astype(np.int64)}
        if seen.any():
            codes = np.where(seen[codes] > 0, codes, -1)
            shares = (seen / seen.sum()).astype(np.float64)
            probabilities[MAJORITY] = np.tile(shares, (adata.n_obs, 1))
            predicted[MAJORITY] = np.full(adata.n_obs, shares.argmax())
        found[name] = Predictions(rows, codes, probabilities, predicted)
    return found
