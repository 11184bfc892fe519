import numpy as np
import pandas as pd
import pytest

from polygene_scverse import metrics
from polygene_scverse.evaluation._bootstrap import SCORES
from polygene_scverse.evaluation._predictions import MODEL, Predictions
from polygene_scverse.evaluation._scores import group_rows, method_scores, score_rows, verdict


def simulate_predictions(codes, quality, seed=0):
    """Predictions of methods that give the true one of three categories so much more probability."""
    rng, codes = np.random.default_rng(seed), np.asarray(codes)
    probabilities = {}
    for method, share in quality.items():
        proba = rng.dirichlet(np.ones(3), len(codes)) * (1 - share)
        proba[np.arange(len(codes)), codes] += np.where(codes >= 0, share, 0)
        probabilities[method] = proba / proba.sum(1, keepdims=True)
    predicted = {method: proba.argmax(1) for method, proba in probabilities.items()}
    return Predictions(np.arange(len(codes)), codes, probabilities, predicted)


@pytest.fixture
def predictions():
    codes = np.random.default_rng(1).integers(0, 3, 200)
    codes[::10] = -1
    return simulate_predictions(codes, {MODEL: 0.4, "majority": 0.1, "weak": 0.05, "strong": 0.9, "twin": 0.4})


@pytest.fixture
def table(predictions):
    return pd.DataFrame(score_rows("cell_type", predictions, np.arange(200) % 8, 300, 0))


def test_values_are_those_of_metrics(predictions, table):
    for method, proba in predictions.probabilities.items():
        values = table[table["method"] == method].set_index("score")["value"]
        assert values["accuracy"] == pytest.approx(metrics.accuracy(predictions.codes, proba.argmax(1)))
        assert values["macro_f1"] == pytest.approx(metrics.macro_f1(predictions.codes, proba.argmax(1)))
        assert values["nll"] == pytest.approx(metrics.nll(predictions.codes, proba))
        assert values["ece"] == pytest.approx(metrics.ece(predictions.codes, proba))


def test_columns(table):
    assert (table["n_cells"] == 180).all()
    assert (table["n_groups"] == 8).all()
    at = table["score"].isin(["accuracy", "balanced_accuracy", "macro_f1", "nll"])
    assert (table.loc[at, "low"] <= table.loc[at, "value"]).all()
    assert (table.loc[at, "value"] <= table.loc[at, "high"]).all()
    own = table[table["method"] == MODEL]
    assert (own[["difference", "difference_low", "difference_high"]] == 0).all(axis=None)


def test_differences_are_the_model_minus_the_method(table):
    wide = table.pivot_table(index="score", columns="method", values="value")
    for method in ("weak", "strong"):
        found = table[table["method"] == method].set_index("score")["difference"]
        np.testing.assert_allclose(found, (wide[MODEL] - wide[method])[found.index])


def test_verdicts(table):
    found = table.set_index(["method", "score"])["verdict"]
    for score in ("accuracy", "macro_f1", "nll"):
        assert found["weak", score] == "better"
        assert found["strong", score] == "worse"
        assert found["majority", score] == found[MODEL, score] == ""
    assert found["twin", "accuracy"] == "not significant"


def test_few_groups_are_no_evidence_about_others(predictions):
    def verdicts(groups):
        found = pd.DataFrame(score_rows("cell_type", predictions, groups, 300, 0)).set_index(["method", "score"])
        return [found.loc[(method, "accuracy"), "verdict"] for method in ("weak", "strong", "twin")]

    assert verdicts(np.arange(200) % 4) == ["better in these groups", "worse in these groups", "not significant"]
    assert verdicts(None) == ["better", "worse", "not significant"]  # the cells are the sample


@pytest.mark.parametrize(
    ("score", "low", "high", "expected"),
    [
        ("accuracy", 0.1, 0.2, "better"),
        ("accuracy", -0.2, -0.1, "worse"),
        ("ece", 0.1, 0.2, "worse"),
        ("nll", -0.2, -0.1, "better"),
        ("ece", -0.1, 0.1, "not significant"),
        ("accuracy", 0.0, 0.0, "not significant"),
        ("accuracy", np.nan, np.nan, "not significant"),
    ],
)
def test_verdict(score, low, high, expected):
    assert verdict(score, low, high) == expected


def test_no_known_cell():
    with pytest.raises(ValueError, match="`phenotypes`: no test cell has a known value of 'sex'"):
        score_rows("sex", simulate_predictions([-1, -1], {MODEL: 0.5}), np.zeros(2, dtype=int), 10, 0)


def test_scores_of_single_groups(predictions):
    groups = np.arange(200) % 4
    column = pd.Series(np.array(["d1", "d2", "d3", "d4"])[groups])
    table = pd.DataFrame(group_rows({"cell_type": predictions}, groups, column))
    at = (groups == 2) & (predictions.codes >= 0)
    rows = table[(table["group"] == "d3") & (table["method"] == "weak")].set_index("score")
    proba = predictions.probabilities["weak"][at]
    assert rows.loc["accuracy", "value"] == pytest.approx(metrics.accuracy(predictions.codes[at], proba.argmax(1)))
    assert rows.loc["nll", "value"] == pytest.approx(metrics.nll(predictions.codes[at], proba))
    assert (rows["n_cells"] == at.sum()).all()
    assert sorted(table["group"].unique()) == ["d1", "d2", "d3", "d4"]


def test_scores_of_a_method_are_those_of_the_table(predictions, table):
    rows = table[table["method"] == "weak"].set_index("score")
    np.testing.assert_array_equal(method_scores(predictions.known(), "weak"), rows.loc[list(SCORES), "value"])
