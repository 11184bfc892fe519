import numpy as np
import pandas as pd
import pytest

from polygene_scverse import _validate as v


@pytest.mark.parametrize(
    ("items", "text"),
    [(["a", 1], "['a', '1']"), ("abcde", "['a', 'b'] and 3 more"), ([], "[]"), (pd.Index(["x"]), "['x']")],
    ids=["short", "long", "empty", "index"],
)
def test_shorten(items, text):
    assert v.shorten(items, limit=2) == text


@pytest.mark.parametrize("value", [None, np.nan, pd.NA, pd.NaT, "", "  ", "Unknown", "n/a", "nan", "<NA>"])
def test_label_of_missing_values(value):
    assert v.label_of(value) is None


@pytest.mark.parametrize(
    ("value", "label"),
    [
        ("B cell", "B cell"),
        ("None", "None"),
        ("NA", "NA"),
        (" x ", "x"),
        (3, "3"),
        (3.0, "3"),
        (np.float32(3), "3"),
        (2.5, "2.5"),
        (True, "True"),
        (np.bool_(False), "False"),
        (np.int64(-1), "-1"),
        (0, "0"),
        (0.0, "0"),
        ("naive", "naive"),
    ],
)
def test_label_of_values(value, label):
    assert v.label_of(value) == label


def test_accepted():
    v.check_not_empty(1, 1)
    v.check_unique_names(pd.Index(["a", "b"]))
    v.check_choice("a", ("a", "b"), "x")
    v.check_fraction(0, "x")
    v.check_fraction(1, "x")
    v.check_finite(np.array([0.0, -1.0]), "X")
    v.check_not_negative(np.zeros(0), "X")
    v.check_not_negative(np.array([0.0, 2.0]), "X")


@pytest.mark.parametrize("shape", [(0, 3), (3, 0)], ids=["no cells", "no genes"])
def test_empty_data(shape):
    with pytest.raises(ValueError, match=rf"`adata`: found {shape[0]} cells and {shape[1]} genes"):
        v.check_not_empty(*shape)


def test_names_that_repeat():
    names = pd.Index(["a", "b", "a", "a", "b", "c"])
    with pytest.raises(ValueError, match=r"2 names occur more than once in adata.raw.var_names, e.g. \['a', 'b'\]"):
        v.check_unique_names(names, "adata.raw.var_names")


def test_columns(simulated):
    v.check_columns(["sex"], simulated, "group_key", list)
    with pytest.raises(KeyError, match=r"`group_key`: \['x'\] not among .* look like phenotypes: \['sex'\]"):
        v.check_columns(["sex", "x"], simulated, "group_key", lambda obs: ["sex"])


def test_choice():
    with pytest.raises(ValueError, match=r"`pooling`: found 'max', but it must be one of \['mean', 'cls'\]"):
        v.check_choice("max", ("mean", "cls"), "pooling")


@pytest.mark.parametrize("value", [-0.1, 1.1, np.nan])
def test_fraction(value):
    with pytest.raises(ValueError, match=r"`rate`: found .*, but it is a share\. Pass a number from 0 to 1"):
        v.check_fraction(value, "rate")


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ([np.nan, np.nan], "2 values of adata.X are NaN,"),
        ([-np.inf], "1 values of adata.X are infinite,"),
        ([np.inf, np.nan], "2 values of adata.X are NaN or infinite,"),
    ],
    ids=["nan", "inf", "both"],
)
def test_finite(bad, message):
    with pytest.raises(ValueError, match=message + r".*Remove or repair these cells, or pass layer='x'\.$"):
        v.check_finite(np.array([1.0, *bad]), "adata.X", ", or pass layer='x'")


def test_negative():
    with pytest.raises(
        ValueError, match=r"adata\.X has negative values \(lowest -2\.5\).* Pass unscaled data, here\.$"
    ):
        v.check_not_negative(np.array([1.0, -2.5, -1.0]), "adata.X", ", here")
