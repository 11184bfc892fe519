import numpy as np
import pandas as pd
import pytest

from polygene_scverse.evaluation._baselines import baseline_probabilities
from polygene_scverse.evaluation._features import read_features
from polygene_scverse.evaluation._folds import Labels, Training, fill_columns, make_folds, train_fold
from polygene_scverse.evaluation._predictions import MODEL, Predictions, predict_folds


def test_folds_follow_each_other_and_what_training_lacks_is_unknown():
    """The first fold has no training cell of the last category; one cell has no category."""
    label = Labels(["a", "b", "c"], np.array([0, 1, 2, 0, 1, -1]))
    folds = [(np.array([0, 1, 3]), np.array([2, 4])), (np.array([2, 4]), np.array([0, 1, 5]))]
    found = Predictions.allocate(label, folds, ["kNN"])
    assert found.rows.tolist() == [2, 4, 0, 1, 5]
    assert found.codes.tolist() == [-1, 1, -1, 1, -1]
    probabilities = np.random.default_rng(0).dirichlet(np.ones(3), 5)
    for start, stop in ((0, 2), (2, 5)):
        found.fill("kNN", start, probabilities[start:stop], probabilities[start:stop].argmax(1))
    np.testing.assert_array_equal(found.probabilities["kNN"], probabilities)
    np.testing.assert_array_equal(found.predicted["kNN"], probabilities.argmax(1))
    known = found.known()
    assert known.rows.tolist() == [4, 1]
    np.testing.assert_array_equal(known.probabilities["kNN"], probabilities[[1, 3]])
    np.testing.assert_array_equal(known.predicted["kNN"], probabilities.argmax(1)[[1, 3]])
    assert found.take(np.array([4, 0])).rows.tolist() == [5, 2]


@pytest.mark.parametrize("group_key", ["donor", None], ids=["groups", "cells"])
def test_every_fold_is_predicted_by_methods_trained_on_the_others(cells, small, group_key):
    label = Labels.from_column(cells.obs["cell_type"])
    folds = make_folds(cells.obs, group_key, 2, {"cell_type": label}, 0)
    name, training = "logistic regression on PCs", Training(group_key, 3, small)
    found = predict_folds(cells, folds, {"cell_type": label}, training, [name])["cell_type"]
    np.testing.assert_array_equal(found.rows, np.concatenate([test for _, test in folds]))
    np.testing.assert_array_equal(found.codes, label.codes[found.rows])
    train, test = folds[1]
    model, train_cells = train_fold(cells, train, ["cell_type"], training)
    second, test_cells = slice(len(folds[0][1]), None), cells[test].copy()
    tables = model.predict_phenotype(test_cells)
    expected = fill_columns(tables["cell_type"], label.categories)
    np.testing.assert_array_equal(found.probabilities[MODEL][second], expected)
    decided = pd.Categorical(model.decide(tables)["cell_type"], categories=label.categories).codes
    np.testing.assert_array_equal(found.predicted[MODEL][second], decided)
    groups = pd.factorize(cells.obs["donor"])[0][train] if group_key else None
    features = [read_features(model, some) for some in (train_cells, test_cells)]
    expected = baseline_probabilities(name, features[0], label.codes[train], groups, features[1], 3, 3)
    np.testing.assert_allclose(found.probabilities[name][second], expected)
    np.testing.assert_array_equal(found.predicted[name], found.probabilities[name].argmax(1))


def test_categories_that_the_model_lacks(cells, small):
    """A category that only test cells have: no method gives it a probability, and its cells are left out."""
    codes = np.where(np.arange(300) < 200, np.arange(300) % 2, np.arange(300) % 3)
    label = Labels(["x", "y", "z"], codes)
    cells.obs["arm"] = pd.Categorical.from_codes(codes, categories=label.categories)
    folds = [(np.arange(200), np.arange(200, 300))]
    found = predict_folds(cells, folds, {"arm": label}, Training(None, 0, small), ["majority"])["arm"]
    np.testing.assert_array_equal(found.codes == -1, codes[200:] == 2)
    for method in (MODEL, "majority"):
        assert (found.probabilities[method][:, 2] == 0).all()
        np.testing.assert_allclose(found.probabilities[method].sum(1), 1, rtol=1e-5)
