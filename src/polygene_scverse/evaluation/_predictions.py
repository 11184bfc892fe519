"""Predictions of several methods for cells that none of them has seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray

from polygene_scverse.evaluation._baselines import baseline_probabilities
from polygene_scverse.evaluation._features import read_features
from polygene_scverse.evaluation._folds import Codes, Fold, Labels, Rows, fill_columns, group_codes, train_fold
from polygene_scverse.model import Polygene

MODEL = "Polygene"


@dataclass
class Predictions:
    """What methods predict for one phenotype of test cells.

    Parameters
    ----------
    rows
        Row numbers of the cells; shape (n_test,).
    codes
        True categories, -1 where unknown or not in the training cells; shape (n_test,).
    recorded
        Whether a category is recorded; shape (n_test,).
    probabilities
        By method, shape (n_test, n_categories).
    predicted
        Category that each method decides for, shape (n_test,).
    """

    rows: Rows
    codes: Codes
    recorded: NDArray[np.bool_]
    probabilities: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    predicted: dict[str, Codes] = field(default_factory=dict)

    def add(self, method: str, probabilities: NDArray[np.float64], predicted: NDArray[np.integer]) -> None:
        """Take the predictions of a method."""
        self.probabilities[method], self.predicted[method] = probabilities, predicted.astype(np.int64)

    @property
    def n_unseen(self) -> int:
        """Number of cells whose category their training cells do not have."""
        return int((self.recorded & (self.codes < 0)).sum())

    @classmethod
    def join(cls, folds: Sequence[Predictions]) -> Predictions:
        """Predictions of several folds, one after the other."""
        joined = cls(
            np.concatenate([fold.rows for fold in folds]),
            np.concatenate([fold.codes for fold in folds]),
            np.concatenate([fold.recorded for fold in folds]),
        )
        for method in folds[0].probabilities:
            probabilities = np.concatenate([fold.probabilities[method] for fold in folds])
            joined.add(method, probabilities, np.concatenate([fold.predicted[method] for fold in folds]))
        return joined

    def take(self, cells: NDArray[np.integer] | NDArray[np.bool_]) -> Predictions:
        """Some of the cells."""
        some = Predictions(self.rows[cells], self.codes[cells], self.recorded[cells])
        for method, probabilities in self.probabilities.items():
            some.add(method, probabilities[cells], self.predicted[method][cells])
        return some

    def known(self) -> Predictions:
        """The cells whose category is known and was in training."""
        return self.take(self.codes >= 0)


def predict_folds(
    adata: AnnData,
    folds: Sequence[Fold],
    labels: Mapping[str, Labels],
    *,
    group_key: str | None,
    baselines: Sequence[str] = (),
    seed: int,
    train_kwargs: Mapping[str, Any],
) -> dict[str, Predictions]:
    """Train the model and baselines on one side of each fold and predict the other.

    Parameters
    ----------
    adata
        The cells.
    folds
        Training and test rows.
    labels
        Of each phenotype, as recorded in ``obs``.
    group_key
        Column of the groups; None if there are none.
    baselines
        Names of the baselines to run.
    seed
        Seed of the trainings.
    train_kwargs
        Passed to `train`.

    Returns
    -------
    Predictions for the test cells of all folds, by phenotype.
    """
    by_fold = [_predict_fold(adata, fold, labels, group_key, baselines, seed, train_kwargs) for fold in folds]
    return {name: Predictions.join([predictions[name] for predictions in by_fold]) for name in labels}


def _predict_fold(
    adata: AnnData,
    fold: Fold,
    labels: Mapping[str, Labels],
    group_key: str | None,
    baselines: Sequence[str],
    seed: int,
    train_kwargs: Mapping[str, Any],
) -> dict[str, Predictions]:
    model, train_cells = train_fold(
        adata, fold[0], list(labels), group_key=group_key, seed=seed, train_kwargs=train_kwargs
    )
    test_cells = adata[fold[1]].copy()
    predictions = model_predictions(model, test_cells, fold, labels)
    if baselines:
        place = {"layer": train_kwargs.get("layer"), "use_raw": train_kwargs.get("use_raw", False)}
        train, test = (read_features(model, cells, **place) for cells in (train_cells, test_cells))
        groups = None if group_key is None else group_codes(adata.obs, group_key)[fold[0]]
        for name, label in labels.items():
            codes, n_categories = label.codes[fold[0]], len(label.categories)
            for baseline in baselines:
                probabilities = baseline_probabilities(baseline, train, codes, groups, test, n_categories, seed)
                predictions[name].add(baseline, probabilities, probabilities.argmax(axis=1))
    return predictions


def model_predictions(
    model: Polygene, test_cells: AnnData, fold: Fold, labels: Mapping[str, Labels]
) -> dict[str, Predictions]:
    """Predictions of a model that was trained on one side of a fold for the other, by phenotype."""
    tables = model.predict_phenotype(test_cells)
    decided = model.decide(tables)
    predictions = {}
    for name, label in labels.items():
        train_codes, test_codes = (label.codes[rows] for rows in fold)
        seen = np.isin(test_codes, train_codes)
        predictions[name] = Predictions(fold[1], np.where(seen, test_codes, -1), test_codes >= 0)
        predicted = pd.Index(label.categories).get_indexer(pd.Index(decided[name].astype(str)))
        predictions[name].add(MODEL, fill_columns(tables[name], label.categories), predicted)
    return predictions
