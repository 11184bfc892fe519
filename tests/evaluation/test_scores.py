import numpy as np
import pandas as pd
import pytest

from polygene_scverse import metrics
from polygene_scverse.evaluation._scores import OURS, Answers, group_rows, score_rows, verdict


def answers_of(codes, quality, rows=None, seed=0):
    """Answers of ours and a rival that give the true one of three categories so much more probability."""
    rng = np.random.default_rng(seed)
    codes = np.asarray(codes)
    answers = Answers(np.arange(len(codes)) if rows is None else rows, codes, codes >= -1)
    for method, share in quality.items():
        proba = rng.dirichlet(np.ones(3), len(codes)) * (1 - share)
        proba[np.arange(len(codes)), codes] += np.where(codes >= 0, share, 0)
        proba /= proba.sum(1, keepdims=True)
        answers.add(method, proba, proba.argmax(1))
    return answers


@pytest.fixture
def answers():
    codes = np.random.default_rng(1).integers(0, 3, 200)
    codes[::10] = -1
    return answers_of(codes, {OURS: 0.4, "majority": 0.1, "weak": 0.05, "strong": 0.9, "twin": 0.4})


@pytest.fixture
def table(answers):
    return pd.DataFrame(score_rows("cell_type", answers, np.arange(200) % 8, 300, 0))


def test_values_are_those_of_metrics(answers, table):
    for method, proba in answers.probabilities.items():
        values = table[table["method"] == method].set_index("score")["value"]
        assert values["accuracy"] == pytest.approx(metrics.accuracy(answers.codes, proba.argmax(1)))
        assert values["macro_f1"] == pytest.approx(metrics.macro_f1(answers.codes, proba.argmax(1)))
        assert values["nll"] == pytest.approx(metrics.nll(answers.codes, proba))
        assert values["ece"] == pytest.approx(metrics.ece(answers.codes, proba))


def test_columns(table):
    assert (table["n_cells"] == 180).all()
    assert (table["n_groups"] == 8).all()
    at = table["score"].isin(["accuracy", "balanced_accuracy", "macro_f1", "nll"])
    assert (table.loc[at, "low"] <= table.loc[at, "value"]).all()
    assert (table.loc[at, "value"] <= table.loc[at, "high"]).all()
    own = table[table["method"] == OURS]
    assert (own[["difference", "difference_low", "difference_high"]] == 0).all(axis=None)


def test_differences_are_ours_minus_theirs(table):
    wide = table.pivot_table(index="score", columns="method", values="value")
    for method in ("weak", "strong"):
        found = table[table["method"] == method].set_index("score")["difference"]
        np.testing.assert_allclose(found, (wide[OURS] - wide[method])[found.index])


def test_verdicts(table):
    found = table.set_index(["method", "score"])["verdict"]
    for score in ("accuracy", "macro_f1", "nll"):
        assert found["weak", score] == "better"
        assert found["strong", score] == "worse"
        assert found["majority", score] == found[OURS, score] == ""
    assert found["twin", "accuracy"] == "level"


@pytest.mark.parametrize(
    ("score", "low", "high", "expected"),
    [
        ("accuracy", 0.1, 0.2, "better"),
        ("accuracy", -0.2, -0.1, "worse"),
        ("ece", 0.1, 0.2, "worse"),
        ("nll", -0.2, -0.1, "better"),
        ("ece", -0.1, 0.1, "level"),
        ("accuracy", 0.0, 0.0, "level"),
        ("accuracy", np.nan, np.nan, "level"),
    ],
)
def test_verdict(score, low, high, expected):
    assert verdict(score, low, high) == expected


def test_join_and_known():
    first, second = answers_of([0, -1, 1], {OURS: 0.5}), answers_of([2, 2], {OURS: 0.5}, rows=np.array([7, 9]))
    first.recorded[:] = [True, True, True]
    joined = Answers.join([first, second])
    assert joined.rows.tolist() == [0, 1, 2, 7, 9]
    assert joined.codes.tolist() == [0, -1, 1, 2, 2]
    assert joined.n_unseen == 1
    known = joined.known()
    assert known.rows.tolist() == [0, 2, 7, 9]
    np.testing.assert_array_equal(known.probabilities[OURS], joined.probabilities[OURS][[0, 2, 3, 4]])
    np.testing.assert_array_equal(known.predicted[OURS], joined.predicted[OURS][[0, 2, 3, 4]])


def test_no_known_cell():
    with pytest.raises(ValueError, match="`phenotypes`: no test cell has a known value of 'sex'"):
        score_rows("sex", answers_of([-1, -1], {OURS: 0.5}), np.zeros(2, dtype=int), 10, 0)


def test_scores_of_single_groups(answers):
    groups = np.arange(200) % 4
    column = pd.Series(np.array(["d1", "d2", "d3", "d4"])[groups])
    table = pd.DataFrame(group_rows({"cell_type": answers}, groups, column))
    at = (groups == 2) & (answers.codes >= 0)
    rows = table[(table["group"] == "d3") & (table["method"] == "weak")].set_index("score")
    proba = answers.probabilities["weak"][at]
    assert rows.loc["accuracy", "value"] == pytest.approx(metrics.accuracy(answers.codes[at], proba.argmax(1)))
    assert rows.loc["nll", "value"] == pytest.approx(metrics.nll(answers.codes[at], proba))
    assert (rows["n_cells"] == at.sum()).all()
    assert sorted(table["group"].unique()) == ["d1", "d2", "d3", "d4"]
