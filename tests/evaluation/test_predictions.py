import numpy as np
import pandas as pd
import pytest

from polygene_scverse.evaluation._baselines import baseline_probabilities
from polygene_scverse.evaluation._features import read_features
from polygene_scverse.evaluation._folds import Labels, fill_columns, make_folds, train_fold
from polygene_scverse.evaluation._predictions import MODEL, Predictions, model_predictions, predict_folds


def uniform(rows, codes):
    """Predictions of the model for some rows, drawn."""
    rows, codes = np.asarray(rows), np.asarray(codes)
    probabilities = np.random.default_rng(0).dirichlet(np.ones(3), len(codes))
    predictions = Predictions(rows, codes, np.ones(len(codes), dtype=bool))
    predictions.add(MODEL, probabilities, probabilities.argmax(1))
    return predictions


def test_join_take_and_known():
    joined = Predictions.join([uniform([0, 1, 2], [0, -1, 1]), uniform([7, 9], [2, 2])])
    assert joined.rows.tolist() == [0, 1, 2, 7, 9]
    assert joined.codes.tolist() == [0, -1, 1, 2, 2]
    assert joined.n_unseen == 1
    known = joined.known()
    assert known.rows.tolist() == [0, 2, 7, 9]
    np.testing.assert_array_equal(known.probabilities[MODEL], joined.probabilities[MODEL][[0, 2, 3, 4]])
    np.testing.assert_array_equal(known.predicted[MODEL], joined.predicted[MODEL][[0, 2, 3, 4]])
    assert joined.take(np.array([4, 0])).rows.tolist() == [9, 0]


def test_categories_that_training_cells_lack_are_unknown(trained):
    """The test cells are of a category that the model has, one that it lacks, and none."""
    cells, model = trained
    label = Labels(["B cell", "NK cell", "T cell", "mast cell"], np.r_[np.arange(297) % 3, 3, -1, 2])
    predictions = model_predictions(
        model, cells[297:].copy(), (np.arange(297), np.arange(297, 300)), {"cell_type": label}
    )
    found = predictions["cell_type"]
    assert found.rows.tolist() == [297, 298, 299]
    assert found.codes.tolist() == [-1, -1, 2]
    assert found.recorded.tolist() == [True, False, True]
    assert found.n_unseen == 1
    tables = model.predict_phenotype(cells[297:].copy())
    np.testing.assert_array_equal(found.probabilities[MODEL][:, :3], tables["cell_type"])
    assert (found.probabilities[MODEL][:, 3] == 0).all()
    decided = model.decide(tables)["cell_type"].cat.codes
    np.testing.assert_array_equal(found.predicted[MODEL], decided)


@pytest.mark.parametrize("group_key", ["donor", None], ids=["groups", "cells"])
def test_every_fold_is_predicted_by_methods_trained_on_the_others(cells, small, group_key):
    labels = {"cell_type": Labels.from_column(cells.obs["cell_type"])}
    folds = make_folds(cells.obs, group_key, 2, labels, 0)
    name, kwargs = "logistic regression on PCs", {"group_key": group_key, "seed": 3, "train_kwargs": small}
    found = predict_folds(cells, folds, labels, baselines=[name], **kwargs)["cell_type"]
    np.testing.assert_array_equal(found.rows, np.concatenate([test for _, test in folds]))
    train, test = folds[1]
    model, train_cells = train_fold(cells, train, ["cell_type"], **kwargs)
    second, test_cells = np.isin(found.rows, test), cells[test].copy()
    table = model.predict_phenotype(test_cells)["cell_type"]
    np.testing.assert_array_equal(
        found.probabilities[MODEL][second], fill_columns(table, labels["cell_type"].categories)
    )
    groups = pd.factorize(cells.obs["donor"])[0][train] if group_key else None
    features = [read_features(model, some) for some in (train_cells, test_cells)]
    expected = baseline_probabilities(name, features[0], labels["cell_type"].codes[train], groups, features[1], 3, 3)
    np.testing.assert_allclose(found.probabilities[name][second], expected)
    np.testing.assert_array_equal(found.predicted[name], found.probabilities[name].argmax(1))
