import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from polygene_scverse import get
from polygene_scverse._constants import probability_key
from polygene_scverse.data.read._phenotypes import categories_of, encode
from polygene_scverse.get import _lookup


def test_predicted_phenotypes(predicted):
    assert _lookup.predicted_phenotypes(predicted) == ["cell_type", "age", "hidden"]
    predicted.obs["polygene_other"] = 1  # not ours: has no confidence
    assert _lookup.predicted_phenotypes(predicted) == ["cell_type", "age", "hidden"]


def test_predicted_phenotype_is_accepted(predicted):
    _lookup.check_predicted(predicted, "cell_type")
    _lookup.check_predicted(predicted, "cell_type", where="obsm", key_of=probability_key)


def test_phenotype_that_was_not_predicted(predicted):
    text = r"no prediction of 'sex' found: adata.obs has no 'polygene_sex'. Predicted so far: \['cell_type', 'age', 'hidden'\]"
    with pytest.raises(KeyError, match=text):
        _lookup.check_predicted(predicted, "sex")


def test_nothing_was_predicted(simulated):
    with pytest.raises(KeyError, match=r"`phenotype`: .* Call pgs.tl.predict_phenotype\(adata\) first"):
        _lookup.check_predicted(simulated, "sex")


def test_model_categories(predicted):
    assert _lookup.model_categories(predicted, "cell_type") == ["T", "B", "NK"]
    assert _lookup.model_categories(predicted[:2], "cell_type") == ["T", "B", "NK"]
    assert _lookup.model_categories(predicted, "age") == ["30", "40"]


def test_training_note(predicted, simulated):
    assert _lookup.training_note(predicted)["phenotypes"] == ["cell_type", "age"]
    assert _lookup.training_note(simulated) == {}


@pytest.mark.parametrize(
    "values",
    [
        ["a", None, "b", "NA", " a "],
        [1, 2, 1],
        [1.0, np.nan, 2.5],
        [True, False],
        pd.Categorical(["x", np.nan, "unknown"], categories=["unused", "x", "unknown"]),
        pd.array(["a", pd.NA], dtype="string"),
    ],
    ids=["strings", "integers", "numbers", "truth", "categorical", "nullable"],
)
def test_labels_are_those_that_the_model_reads(values):
    column = pd.Series(values, index=[f"cell{i}" for i in range(len(values))], name="p")
    labels = _lookup.recorded_labels(column)
    categories = sorted(labels.dropna().unique())
    codes, unseen = encode(column, categories)
    assert unseen == []
    assert labels.index.equals(column.index)
    assert [categories[c] if c >= 0 else None for c in codes] == [None if pd.isna(x) else x for x in labels]
    if len(categories) > 1:
        assert sorted(categories_of(column)) == categories


def test_recorded_codes(predicted):
    assert _lookup.recorded_codes(predicted, "cell_type", ["T", "B", "NK"]).tolist() == [0, 1, 0, -1, -1, -1, 0]


def test_scored_phenotypes(predicted):
    assert _lookup.scored_phenotypes(predicted, None) == ["cell_type", "age"]  # "hidden" is not recorded
    assert _lookup.scored_phenotypes(predicted, "age") == ["age"]
    assert _lookup.scored_phenotypes(predicted, ("age", "cell_type")) == ["age", "cell_type"]


TABLES = ("confusion", "predictions", "probabilities", "reliability")


@pytest.mark.parametrize("name", TABLES)
def test_the_only_phenotype_need_not_be_named(name, predicted):
    table = getattr(get, name)
    predicted.obs = predicted.obs[["cell_type", "polygene_cell_type", "polygene_cell_type_confidence"]]
    pd.testing.assert_frame_equal(table(predicted), table(predicted, "cell_type"))


@pytest.mark.parametrize("name", [*TABLES, "abstention", "prediction_sets"])
def test_of_several_phenotypes_one_must_be_named(name, predicted):
    with pytest.raises(
        ValueError, match=r"`phenotype`: 3 phenotypes have been predicted, \['cell_type'.* Pass one of them"
    ):
        getattr(get, name)(predicted)


def test_no_phenotype_is_predicted():
    with pytest.raises(KeyError, match=r"adata has no predictions. Call pgs.tl.predict_phenotype"):
        get.predictions(AnnData(np.ones((2, 1), np.float32)))


def test_renamed_predictions_are_refused(predicted):
    """Else they would drop out of tables."""
    predicted.obs["polygene_cell_type"] = predicted.obs["polygene_cell_type"].cat.rename_categories({"T": "T cell"})
    for function in (get.predictions, get.confusion, get.abstention, get.reliability, get.probabilities):
        with pytest.raises(ValueError, match=r"has \['T cell'\], but the categories .* are \['T', 'B', 'NK'\]"):
            function(predicted, "cell_type")
    predicted.uns["polygene"]["predict"]["cell_type"] = ["T cell", "B", "NK"]
    assert set(get.predictions(predicted, "cell_type")["predicted"]) == {"T cell", "B", "NK"}


def test_unassigned_is_no_category(predicted):
    labels = predicted.obs["polygene_cell_type"].astype(object)
    labels.iloc[0] = "unassigned"
    predicted.obs["polygene_cell_type"] = pd.Categorical(labels)
    assert _lookup.model_categories(predicted, "cell_type") == ["T", "B", "NK"]


def test_labels_of_single_precision():
    column = pd.Series(np.array([0.1, np.nan, 2.0], dtype=np.float32))
    assert _lookup.recorded_labels(column).tolist()[::2] == ["0.1", "2"]


def test_a_category_of_the_model_is_not_missing():
    column = pd.Series(["a", "unknown", "none", None])
    assert _lookup.recorded_labels(column).fillna("-").tolist() == ["a", "-", "none", "-"]
    assert _lookup.recorded_labels(column, ["a", "unknown"]).fillna("-").tolist() == ["a", "unknown", "none", "-"]
    assert _lookup.recorded_labels(column, ["a"], {"none"}).fillna("-").tolist() == ["a", "unknown", "-", "-"]
