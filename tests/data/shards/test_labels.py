"""The oracle of a joined column is `anndata.concat`, read by the functions that read obs in memory."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from polygene_scverse.data.read._phenotypes import categories_of, encode
from polygene_scverse.data.shards._labels import join_columns

NAMES = ["a", "b", "c"]


def category(values, categories=None, ordered=False):
    return pd.Categorical(values, categories=categories, ordered=ordered)


COLUMNS = {
    "same categories": [
        category(["T", "B"], ["T", "B"]),
        category(["B", None], ["T", "B"]),
        category(["T"], ["T", "B"]),
    ],
    "other categories": [category(["t10", "t2"]), category(["t9", None]), category(["t1"])],
    "ordered": [category(["old"], ["young", "old"], True), category(["young"], ["young", "old"], True)],
    "ordered in two ways": [category(["old"], ["young", "old"], True), category(["young"], ["old", "young"], True)],
    "text": [["t10", "t2"], ["t9", None], ["t2"]],
    "text and categories": [["t10", "t2"], category(["t9", None]), ["t2"]],
    "whole numbers": [[10, 9], [2], [9]],
    "numbers with holes": [[10.0, np.nan], [9, 2], [2.5]],
    "number categories": [category([10, 2]), category([9, None])],
    "numbers and number categories": [[10, 2], category([9, None])],
    "booleans": [[True, False], [True, True]],
    "words for no value": [["unknown", "x"], ["y", ""], ["x", "nan"]],
    "one part without values": [["t10", "t2"], [None, None], ["t2"]],
    "one part without values, categories": [category(["t10", "t2"]), [np.nan, np.nan], category(["t2"])],
}


@pytest.mark.parametrize("parts", COLUMNS.values(), ids=COLUMNS)
def test_categories_and_codes_are_those_in_memory(parts):
    parts = [pd.Series(part, name="label") for part in parts]
    joined = join_columns(parts, NAMES[: len(parts)], "phenotypes")
    frames = [p.rename(lambda i, k=k: f"{k}_{i}").to_frame() for k, p in enumerate(parts)]
    if any(part.isna().all() for part in parts):  # to anndata a column without values is one of numbers
        expected = pd.concat([part.astype(object) for part in parts], ignore_index=True).rename("label")
    else:
        expected = ad.concat([AnnData(obs=frame) for frame in frames]).obs["label"]
    assert joined.name == "label"
    assert categories_of(joined) == categories_of(expected)
    categories = categories_of(joined)
    np.testing.assert_array_equal(encode(joined, categories)[0], encode(expected, categories)[0])


def test_text_takes_a_byte():
    joined = join_columns(
        [pd.Series(["a", "b"] * 50, name="x"), pd.Series(["c"] * 50, name="x")], NAMES[:2], "phenotypes"
    )
    assert joined.cat.codes.dtype == np.int8


def test_a_column_without_values():
    joined = join_columns([pd.Series([None, None], name="x"), pd.Series([np.nan], name="x")], NAMES[:2], "phenotypes")
    assert len(joined) == 3
    assert joined.isna().all()


MIXED = {
    "numbers and text": ([[1, 2], ["a"]], r"obs\['x'\] holds numbers in a, but text in b"),
    "text and booleans": ([["a"], [None], [True]], r"obs\['x'\] holds text in a, but booleans in c"),
    "categories": ([category([1, 2]), category(["a"])], r"holds numbers in a, but text in b\. Use the same labels"),
}


@pytest.mark.parametrize(("parts", "match"), MIXED.values(), ids=MIXED)
def test_labels_of_two_kinds_are_refused(parts, match):
    with pytest.raises(ValueError, match=match):
        join_columns([pd.Series(part, name="x") for part in parts], NAMES[: len(parts)], "phenotypes")


def test_the_argument_is_named():
    with pytest.raises(ValueError, match=r"^`group_key`: "):
        join_columns([pd.Series([1], name="x"), pd.Series(["a"], name="x")], NAMES[:2], "group_key")
