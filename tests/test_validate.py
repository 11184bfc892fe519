import re

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from mudata import MuData

from polygene_scverse import _validate as v
from polygene_scverse.data.read._phenotypes import warn_of_words


@pytest.mark.parametrize(
    ("items", "text"),
    [(["a", 1], "['a', '1']"), ("abcde", "['a', 'b'] and 3 more"), ([], "[]"), (pd.Index(["x"]), "['x']")],
    ids=["short", "long", "empty", "index"],
)
def test_shorten(items, text):
    assert v.shorten(items, limit=2) == text


@pytest.mark.parametrize(
    "value", [None, np.nan, pd.NA, pd.NaT, "", "  ", "Unknown", "N/A", "n/a", "nan", "unassigned", "<NA>"]
)
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
        ([1, None], "[1, None]"),
        (b"B cell", "B cell"),
        (np.bytes_(b"T cell"), "T cell"),
    ],
)
def test_label_of_values(value, label):
    assert v.label_of(value) == label


@pytest.mark.parametrize("missing", [(), {"none", "unknown"}], ids=["no words", "words"])
def test_words_that_mean_no_value_are_those_that_are_passed(missing):
    found = [v.label_of(value, missing) for value in (None, np.nan, " ", "None", "Unknown", "n/a")]
    assert found == [None, None, None, *([None, None] if missing else ["None", "Unknown"]), "n/a"]


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
    for what, remedy in (("adata.var_names", "Call adata.var_names"), ("adata.raw.var_names", "raw.var_names")):
        with pytest.raises(ValueError, match=rf"{re.escape(remedy)}_make_unique\(\).*, or drop the duplicates"):
            v.check_unique_names(names, what)


def test_columns(simulated):
    v.check_columns(["sex"], simulated.obs, "group_key", list)
    with pytest.raises(KeyError, match=r"`group_key`: \['x'\] are not columns .* have labels: \['sex'\]"):
        v.check_columns(["sex", "x"], simulated.obs, "group_key", lambda obs: ["sex"])
    obs = simulated.obs.assign(patient="P1", polygene_sex="male")
    with pytest.raises(KeyError, match=r"have labels: \['sex'\]; others: \[.*'patient'.*\]. Pass") as error:
        v.check_columns(["x"], obs, "group_key", lambda obs: ["sex"])
    assert "polygene_sex" not in str(error.value)


def test_columns_of_labels():
    obs = pd.DataFrame({"x": ["a", None], "y": [1.5, 2.0], "lists": [["a"], {"b"}]})
    pd.testing.assert_series_equal(v.check_labels(obs, "x", "given"), obs["x"])
    pd.testing.assert_series_equal(v.check_labels(obs, "y", "given"), obs["y"])
    with pytest.raises(ValueError, match=r"`given`: adata\.obs\['lists'\] holds values of the type list or set"):
        v.check_labels(obs, "lists", "given")
    with pytest.raises(ValueError, match=r"`given`: adata\.obs has 2 columns called 'x', but one is needed"):
        v.check_labels(pd.concat([obs, obs], axis=1), "x", "given")


def test_columns_that_hold_no_labels_are_refused(simulated):
    simulated.obs["lists"] = [[1]] * simulated.n_obs
    with pytest.raises(ValueError, match=r"`group_key`: .*holds values of the type list"):
        v.check_columns(["sex", "lists"], simulated.obs, "group_key", list)


def test_only_a_slice_of_a_file_cannot_be_written_to(simulated, tmp_path):
    v.check_writable(simulated)
    v.check_writable(simulated[:5])
    simulated.write_h5ad(tmp_path / "cells.h5ad")
    backed = ad.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    v.check_writable(backed)
    with pytest.raises(ValueError, match="`adata`: found a slice of a backed file"):
        v.check_writable(backed[:5])
    backed.file.close()


def test_choice():
    with pytest.raises(ValueError, match=r"`pooling`: found 'max', but it must be one of \['mean', 'cls'\]"):
        v.check_choice("max", ("mean", "cls"), "pooling")


@pytest.mark.parametrize("value", [-0.1, 1.1, np.nan, "0.5", None])
def test_fraction(value):
    with pytest.raises(ValueError, match=r"`rate`: found .*, but it must be a fraction\. Pass a number from 0 to 1"):
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


def test_a_warning_points_at_the_line_of_the_user():
    labels = pd.Series(["B cell", "NA", "T cell"] * 5)
    with pytest.warns(UserWarning, match="'NA'") as seen:
        warn_of_words({"cell_type": labels})
    assert [w.filename for w in seen] == [__file__]


def test_a_warning_is_given_once():
    """Within the context, also if it is nested; afterwards again."""

    def warn_often():
        with v.warn_once():
            v.warn("a")
            with v.warn_once():
                v.warn("a")
                v.warn("b")
            v.warn("b")
        v.warn("a")

    with pytest.warns(UserWarning, match="a|b") as seen:
        warn_often()
    assert [str(w.message) for w in seen] == ["a", "b", "a"]


def test_whole_numbers():
    assert v.check_whole(np.int64(3), "n", 1, 3) == 3
    assert type(v.check_whole(np.int64(3), "n")) is int
    for value in (0, 4, 1.5, 2.0, "2", None, np.nan):
        with pytest.raises(ValueError, match=r"`n`: found .*, but it must be from 1 to 3\. Pass a whole number"):
            v.check_whole(value, "n", 1, 3)
    with pytest.raises(ValueError, match="`n`: found -1, but it must be at least 0"):
        v.check_whole(-1, "n")


@pytest.mark.parametrize("seed", [-1, 2**32, 0.5, "a", None])
def test_seeds_that_a_library_cannot_use(seed):
    with pytest.raises(ValueError, match=r"`seed`: found .*, but it must be from 0 to 4294967295"):
        v.check_seed(seed)


def test_names():
    assert v.check_names("sex", "given") == ["sex"]
    assert v.check_names(pd.Index(["a", "b"]), "given") == ["a", "b"]
    assert v.check_names((), "given") == []
    table = pd.DataFrame({"sex": ["male"]})
    for names, words in (({"sex": "male"}, "dict"), (table, "DataFrame"), (3, "int"), (None, "NoneType")):
        with pytest.raises(TypeError, match=f"`given`: found {words} .*, but names are needed"):
            v.check_names(names, "given")


def test_rows():
    for rows in ([0, 2, -1], np.array([0, 2, 4]), np.array([True, False, True, False, True])):
        np.testing.assert_array_equal(v.check_rows(rows, 5, "split"), [0, 2, 4])
    assert v.check_rows([], 5, "split").dtype == np.int64
    for rows in ([5], [-6], [0.5], ["cell"], 3, [[0], [1]], [True, False]):
        with pytest.raises(ValueError, match=r"`split`: found .*, but row numbers from 0 to 4, or a mask of 5 cells"):
            v.check_rows(rows, 5, "split")


def test_arguments_that_are_passed_on():
    assert v.check_kwargs(None, "train_kwargs") == {}
    assert v.check_kwargs({"lr": 1}, "train_kwargs") == {"lr": 1}
    with pytest.raises(TypeError, match="`train_kwargs`: found list, but a mapping of names to values is needed"):
        v.check_kwargs([1], "train_kwargs")


def test_tables_of_other_cells(simulated):
    simulated.obsm["scores"] = pd.DataFrame({"x": np.zeros(simulated.n_obs)}, index=simulated.obs_names)
    simulated.obs.reset_index(drop=True, inplace=True)
    with pytest.raises(
        ValueError, match=r"`adata`: the tables in adata\.obsm have other cell names than adata\.obs_names"
    ):
        v.check_writable(simulated)


def test_mudata_where_anndata_is_needed(simulated):
    with pytest.raises(
        TypeError, match=r"`adata`: found MuData, but AnnData is needed\. Pass one modality, such as mdata"
    ):
        v.check_writable(MuData({"rna": simulated}))
    with pytest.raises(TypeError, match=r"`adata`: found DataFrame, but AnnData is needed\.$"):
        v.check_writable(simulated.obs)
