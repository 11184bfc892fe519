import numpy as np
import pandas as pd
import pytest

from polygene_scverse.data.read._ordered import number_of, resolve_ordered

AGES = ["young", "adult", "old"]


@pytest.mark.parametrize(
    ("label", "number"),
    [
        ("34", 34),
        ("-1.5", -1.5),
        ("20-29", 24.5),
        ("(20, 30]", 25),
        ("[0.5, 1.5)", 1),
        ("34-year-old stage", 34),
        ("34-year-old human stage", 34),
        ("34 years", 34),
        ("6-month-old stage", 0.5),
        ("1-day-old", 1 / 365.25),
        ("65-79 year-old stage", 72),
        ("80 year-old and over stage", 80),
        ("third decade stage", 25),
        ("Third decade human stage", 25),
    ],
    ids=str,
)
def test_numbers(label, number):
    assert number_of(label) == pytest.approx(number)


@pytest.mark.parametrize(
    "label",
    ["adult", "T cell", "CD4+", "Carnegie stage 20", "10th week post-fertilization stage", "S1-2a", ""],
    ids=str,
)
def test_what_is_no_number(label):
    assert number_of(label) is None


def test_an_ordered_categorical_needs_no_word():
    column = pd.Categorical(["old", "young", "adult"], categories=AGES, ordered=True)
    obs = pd.DataFrame({"age": column, "sex": pd.Categorical(["f", "m", "f"])})
    found = resolve_ordered({"age": AGES, "sex": ["f", "m"]}, None, obs)
    assert found == {"age": {"values": [0, 1, 2], "numeric": False}}


def test_ordered_numbers_are_numbers():
    obs = pd.DataFrame({"age": pd.cut(np.array([5.0, 15.0, 35.0]), [0, 10, 20, 50])})
    categories = [str(c) for c in obs["age"].cat.categories]
    assert resolve_ordered({"age": categories}, None, obs) == {"age": {"values": [5, 15, 35], "numeric": True}}


def test_the_order_of_the_column_wins_over_its_numbers():
    obs = pd.DataFrame({"grade": pd.Categorical(["3", "1", "2"], categories=["3", "2", "1"], ordered=True)})
    assert resolve_ordered({"grade": ["3", "2", "1"]}, None, obs)["grade"] == {"values": [0, 1, 2], "numeric": False}


@pytest.mark.parametrize("ordered", ["age", ["age"]], ids=["a word", "a list"])
def test_a_named_phenotype_is_read_in_years(ordered):
    found = resolve_ordered({"age": ["5-year-old stage", "34-year-old stage", "6-month-old stage"]}, ordered)
    assert found == {"age": {"values": [5, 34, 0.5], "numeric": True}}


def test_an_order_in_words():
    found = resolve_ordered({"age": ["adult", "old", "young"]}, {"age": [*AGES, "ancient"]})
    assert found == {"age": {"values": [1, 2, 0], "numeric": False}}


def test_what_it_returned_is_taken_back():
    found = resolve_ordered({"age": ["1", "2"]}, ["age"])
    assert resolve_ordered({"age": ["1", "2"]}, found) == found


def test_nothing_is_ordered():
    assert resolve_ordered({"age": ["1", "2"]}, None, pd.DataFrame({"age": ["1", "2"]})) == {}
    column = pd.Categorical(["1", "2"], ordered=True)
    assert resolve_ordered({"age": ["1", "2"]}, [], pd.DataFrame({"age": column})) == {}


def test_not_a_phenotype():
    with pytest.raises(ValueError, match=r"`ordered`: \['aeg'\] are not phenotypes of the model, which has \['age'\]"):
        resolve_ordered({"age": ["1", "2"]}, ["aeg"])


def test_no_order():
    with pytest.raises(ValueError, match=r"`ordered`: the order of 'age' is unknown, because \['adult', 'old'\]"):
        resolve_ordered({"age": ["adult", "old", "34"]}, ["age"])


def test_categories_are_missing():
    with pytest.raises(ValueError, match=r"`ordered`: the categories \['old'\] of 'age' are missing from the order"):
        resolve_ordered({"age": AGES}, {"age": ["young", "adult"]})
