import numpy as np
import pandas as pd
import pytest

from polygene_scverse.evaluation._bootstrap import SCORES
from polygene_scverse.evaluation._folds import Labels
from polygene_scverse.evaluation._null import NULL
from polygene_scverse.evaluation._scores import OURS, Answers
from polygene_scverse.evaluation._verdict import say


def rows_of(method, value, verdict="level", **verdicts):
    rows = pd.DataFrame({"phenotype": "sex", "method": method, "score": SCORES, "value": value, "low": 0.5})
    rows = rows.assign(high=0.6, difference=0.7 - value, difference_low=-0.2, difference_high=0.2)
    return rows.assign(verdict=[verdicts.get(score, verdict) for score in SCORES])


def sentences(*tables, n_groups=6, group_key="donor", constant=(), codes=None):
    codes = np.arange(12) % 2 if codes is None else codes
    answers = {"sex": Answers(np.arange(12), codes, np.ones(12, dtype=bool))}
    labels = {"sex": Labels(["f", "m"], codes)}
    table = pd.concat([rows_of(OURS, 0.7, ""), *tables])
    return say(table, answers, labels, np.arange(12) % n_groups, group_key, list(constant))


def test_a_rival_that_wins_is_named_with_its_figures():
    _, line = sentences(rows_of("trees", 0.8, macro_f1="worse"), rows_of("kNN", 0.6, "better"))
    assert line == "sex: trees beats ours in macro-F1 (0.800, ours 0.700, difference -0.100 [-0.200, 0.200])."


def test_a_rival_that_wins_everywhere():
    _, line = sentences(rows_of("trees", 0.8, "worse"))
    assert line.endswith("It wins in macro-F1, accuracy and ECE at once.")
    assert "NLL" in line
    assert line.count("macro-F1 (") == 1


def test_large_categories_are_named_where_all_are_not_lost():
    _, line = sentences(rows_of("trees", 0.8, macro_f1_10="worse"))
    assert line.startswith("sex: trees beats ours in macro-F1 over categories with 10 or more test cells (0.800")


def test_no_rival_wins():
    _, line = sentences(rows_of("trees", 0.7))
    assert line == "sex: no rival is better than ours in any score by more than chance."


def test_no_rivals():
    assert len(sentences()) == 1


@pytest.mark.parametrize(
    ("n_groups", "key", "said"),
    [
        (6, "donor", "12 test cells of 6 held-out groups of 'donor'. Bootstrap over groups;"),
        (4, "donor", "Bootstrap over cells within groups, as there are fewer than 5;"),
        (1, None, "training cells come from the same donors, so that every figure is an upper bound"),
    ],
    ids=["groups", "few groups", "no groups"],
)
def test_the_test_is_described(n_groups, key, said):
    first = sentences(n_groups=n_groups, group_key=key)[0]
    assert said in first
    assert "balance=0.5" in first


def test_unseen_categories_are_counted():
    codes = np.r_[np.arange(10) % 2, -1, -1]
    assert "sex: 2 test cells are of a category without training cells, and left out." in sentences(codes=codes)


def test_constant_within_groups_counts_groups():
    assert "sex: constant within 'donor', so that there are 6 independent examples, not 12." in sentences(
        constant=["sex"]
    )


@pytest.mark.parametrize(
    ("high", "said"), [(0.6, "above every permutation"), (0.75, "no evidence of a signal")], ids=["signal", "none"]
)
def test_the_null_is_judged(high, said):
    null = rows_of(NULL, 0.55, "").assign(high=high)
    lines = sentences(null, constant=["sex"])
    assert f"with labels permuted between groups 0.550 (0.500 to {high:.3f})" in lines[-1]
    assert said in lines[-1]
