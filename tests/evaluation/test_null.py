import numpy as np
import pandas as pd
import pytest

from polygene_scverse import metrics
from polygene_scverse.evaluation import _null
from polygene_scverse.evaluation._bootstrap import SCORES
from polygene_scverse.evaluation._folds import Labels, Training, make_folds, train_fold
from polygene_scverse.evaluation._null import NULL, draw_permutation, null_rows, permute_labels


def test_groups_take_each_others_categories():
    groups = np.array([5, 5, 8, 8, 2, 2])  # in order: 2, 5, 8
    label = Labels(["a", "b", "c"], np.array([1, 1, 2, -1, 0, 0]))
    codes = permute_labels(label, groups, np.array([1, 2, 0]))  # 2 takes that of 8, 5 that of 2, 8 that of 5
    assert codes.tolist() == [0, 0, 1, -1, 2, 2]
    assert permute_labels(label, groups, np.arange(3)).tolist() == label.codes.tolist()


def test_groups_without_a_value_stay_without():
    groups = np.repeat(np.arange(4), 3)
    label = Labels(["a", "b"], np.repeat([0, -1, 1, 1], 3))
    for seed in range(10):
        codes = permute_labels(label, groups, np.random.default_rng(seed).permutation(4)).reshape(4, 3)
        assert (codes == codes[:, :1]).all()
        assert codes[1, 0] == -1
        assert sorted(codes[[0, 2, 3], 0]) == [0, 1, 1]


@pytest.fixture
def with_disease(cells):
    """A disease that raises ten genes much, in donors 0, 1 and 2 of six."""
    donor = cells.obs["donor"].cat.codes.to_numpy()
    ill = donor < 3
    counts = cells.X.toarray()
    counts[ill, 40:50] += 12
    cells.X = type(cells.X)(counts)
    cells.obs["disease"] = pd.Categorical(np.where(ill, "flu", "healthy"))
    return cells


def test_permuted_labels_cannot_be_learned(with_disease, small):
    labels = {"disease": Labels.from_column(with_disease.obs["disease"])}
    before = with_disease.obs.copy()
    folds = make_folds(with_disease.obs, "donor", 3, labels, 0)
    kwargs = {**small, "max_epochs": 1}
    rows = pd.DataFrame(null_rows(with_disease, folds, labels, Training("donor", 0, kwargs), 2)).set_index("score")
    assert list(rows.index) == list(SCORES)
    assert (rows["method"] == NULL).all()
    assert (rows["low"] <= rows["value"]).all()
    assert (rows["value"] <= rows["high"]).all()
    assert rows.loc["accuracy", "low"] < rows.loc["accuracy", "high"]
    assert rows.loc["accuracy", "value"] < 0.7
    assert (rows["n_groups"] == 6).all()
    assert with_disease.obs.equals(before)


def test_nothing_to_permute_labels(cells):
    labels = {"disease": Labels(["a", "b"], np.zeros(3, dtype=int))}
    assert null_rows(cells, [], {}, Training("donor", 0, {}), 5) == []
    assert null_rows(cells, [], labels, Training("donor", 0, {}), 0) == []


def test_too_few_groups_for_a_null(cells):
    """One of two training donors is ill, whichever: tested alone, it leaves one category."""
    donor = cells.obs["donor"].cat.codes.to_numpy()
    labels = {"disease": Labels(["a", "b"], (donor == 0).astype(int))}
    folds = [(np.flatnonzero(donor == k), np.flatnonzero(donor != k)) for k in range(6)]
    with pytest.raises(ValueError, match=r"`n_null`: a hundred permutations of the categories of \['disease'\]"):
        null_rows(cells, folds, labels, Training("donor", 0, {}), 1)


def test_phenotypes_are_permuted_together():
    """What goes together in donors still does: sex and disease are those of the same other donor."""
    groups = np.repeat(np.arange(8), 2)
    labels = {name: Labels(["a", "b"], np.repeat(np.arange(8) % 2, 2)) for name in ("sex", "disease")}
    folds = [(np.arange(8), np.arange(8, 16))]
    permuted = draw_permutation(labels, groups, folds, np.random.default_rng(0))
    np.testing.assert_array_equal(permuted["sex"].codes, permuted["disease"].codes)
    assert not np.array_equal(permuted["sex"].codes, labels["sex"].codes)
    assert permuted["sex"].categories == ["a", "b"]


def test_every_fold_keeps_two_categories():
    """Half of the permutations of one case among four donors would leave the first fold without it."""
    groups = np.repeat(np.arange(4), 3)
    label = Labels(["a", "b"], (groups == 0).astype(int))
    folds = [(np.flatnonzero(groups < 2), np.flatnonzero(groups >= 2))]
    for seed in range(8):
        codes = draw_permutation({"disease": label}, groups, folds, np.random.default_rng(seed))["disease"].codes
        assert set(codes[groups < 2]) == {0, 1}


def test_scores_are_those_of_models_trained_on_permuted_labels(with_disease, small, monkeypatch):
    """With the labels left as they are, the null is what the model scores."""
    monkeypatch.setattr(_null, "permute_labels", lambda label, groups, order: label.codes)
    labels = {"disease": Labels.from_column(with_disease.obs["disease"])}
    ((train, test), *_) = make_folds(with_disease.obs, "donor", 3, labels, 0)
    training = Training("donor", 0, small)
    rows = null_rows(with_disease, [(train, test)], labels, training, 1)
    model, _ = train_fold(with_disease, train, ["disease"], training)
    proba = model.predict_phenotype(with_disease[test].copy())["disease"]
    found = {row["score"]: row["value"] for row in rows}
    assert found["nll"] == pytest.approx(metrics.nll(labels["disease"].codes[test], proba))
    assert found["ece"] == pytest.approx(metrics.ece(labels["disease"].codes[test], proba))
