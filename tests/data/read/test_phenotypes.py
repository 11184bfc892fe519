import anndata as ad
import numpy as np
import pandas as pd
import pytest

from polygene_scverse.data.read._phenotypes import (
    candidates,
    categories_of,
    encode,
    encode_all,
    find_phenotypes,
    looks_like_phenotype,
    resolve_phenotypes,
)

COLUMNS = {
    "strings": (["b", "a", "b"], ["a", "b"], [1, 0, 1]),
    "nan": (["b", np.nan, "a"], ["a", "b"], [1, -1, 0]),
    "none": (["b", None, "a"], ["a", "b"], [1, -1, 0]),
    "empty": (["b", "", "a", "  "], ["a", "b"], [1, -1, 0, -1]),
    "unknown": (["b", "unknown", "a", "Unknown"], ["a", "b"], [1, -1, 0, -1]),
    "na": (["b", "na", "a", "NA", "N/A"], ["NA", "a", "b", "na"], [2, 3, 1, 0, -1]),
    "spaces": ([" a", "b ", "a"], ["a", "b"], [0, 1, 0]),
    "bool": ([True, False, True], ["False", "True"], [1, 0, 1]),
    "bool with none": ([True, None, False], ["False", "True"], [1, -1, 0]),
    "nullable bool": (pd.array([True, None, False], dtype="boolean"), ["False", "True"], [1, -1, 0]),
    "int": ([10, 9, 100], ["9", "10", "100"], [1, 0, 2]),
    "negative int": ([10, -9], ["-9", "10"], [1, 0]),
    "int with nan": ([10.0, np.nan, 9.0], ["9", "10"], [1, -1, 0]),
    "nullable int": (pd.array([10, None, 9], dtype="Int64"), ["9", "10"], [1, -1, 0]),
    "float": ([0.5, 10.0, 2.25], ["0.5", "2.25", "10"], [0, 2, 1]),
    "string dtype": (pd.array(["b", None, "a"], dtype="string"), ["a", "b"], [1, -1, 0]),
    "mixed": (["1", 1, 1.0, "x"], ["1", "x"], [0, 0, 0, 1]),
    "categorical": (pd.Categorical(["b", None, "a"]), ["a", "b"], [1, -1, 0]),
    "order of categories": (pd.Categorical(["x", "y"], categories=["y", "x"]), ["y", "x"], [1, 0]),
    "ordered": (
        pd.Categorical(["low", "high"], categories=["low", "mid", "high"], ordered=True),
        ["low", "high"],
        [0, 1],
    ),
    "unused levels": (pd.Categorical(["c", "a"], categories=["a", "b", "c", "d"]), ["a", "c"], [1, 0]),
    "missing level": (pd.Categorical(["a", "unknown", "b"]), ["a", "b"], [0, -1, 1]),
    "number levels": (pd.Categorical([10.0, None, 9.0]), ["9", "10"], [1, -1, 0]),
    "levels with one label": (pd.Categorical(["a", "a ", "b"]), ["a", "b"], [0, 0, 1]),
    "many levels": (pd.Categorical([str(i % 300) for i in range(600)]), sorted(map(str, range(300))), None),
}


@pytest.mark.parametrize(("values", "categories", "codes"), COLUMNS.values(), ids=COLUMNS)
def test_categories_and_codes(values, categories, codes):
    column = pd.Series(values, name="x")
    before = column.copy()
    assert categories_of(column) == categories
    found, unseen = encode(column, categories)
    codes = [categories.index(value) for value in values] if codes is None else codes
    np.testing.assert_array_equal(found, codes)
    assert found.dtype == np.int64
    assert unseen == []
    pd.testing.assert_series_equal(column, before)


@pytest.mark.parametrize("dtype", [object, "category", "string"])
def test_unseen_labels_are_unknown_and_named(dtype):
    column = pd.Series(["a", "new", None, "b", "new", "other"], dtype=dtype)
    codes, unseen = encode(column, ["b", "a", "c"])
    np.testing.assert_array_equal(codes, [1, -1, -1, 0, -1, -1])
    assert sorted(unseen) == ["new", "other"]


def test_unused_levels_are_not_unseen():
    column = pd.Series(pd.Categorical(["a", "b"], categories=["a", "b", "new"]))
    assert encode(column, ["a", "b"])[1] == []


@pytest.mark.parametrize("dtype", ["float32", "float64", "Float32", "Float64"])
def test_numbers_have_the_same_labels_in_any_precision(dtype):
    column = pd.Series([0.1, 0.2, 3.0, 0.1]).astype(dtype)
    assert categories_of(column) == ["0.1", "0.2", "3"]
    assert categories_of(column.astype("category")) == ["0.1", "0.2", "3"]


def test_int_and_float_columns_have_the_same_codes():
    """A column of whole numbers becomes float when a query lacks a value, and text after reading a table."""
    known = categories_of(pd.Series([1, 2, 10]))
    for values in ([2.0, np.nan, 10.0], ["2", "unknown", "10"], pd.Categorical([2, None, 10])):
        np.testing.assert_array_equal(encode(pd.Series(values), known)[0], [1, -1, 2])


def test_encode_all(simulated):
    before = simulated.obs.copy()
    categories = {"sex": ["male", "female"], "absent": ["x", "y"], "cell_type": ["T cell", "B cell"]}
    codes, unseen = encode_all(simulated.obs, categories)
    obs = simulated.obs
    expected = [
        obs["sex"].map({"male": 0, "female": 1}).astype(float).fillna(-1),
        np.full(len(obs), -1),
        obs["cell_type"].map({"T cell": 0, "B cell": 1}).astype(float).fillna(-1),
    ]
    np.testing.assert_array_equal(codes, np.stack(expected, axis=1))
    assert unseen == {"cell_type": ["NK cell"]}
    pd.testing.assert_frame_equal(simulated.obs, before)


def test_codes_of_real_labels(pbmc):
    categories = {name: categories_of(pbmc.obs[name]) for name in ("bulk_labels", "phase")}
    codes, _ = encode_all(pbmc.obs, categories)
    for i, name in enumerate(categories):
        np.testing.assert_array_equal(np.array(categories[name])[codes[:, i]], pbmc.obs[name].astype(str))


def test_real_labels_with_missing_values(shared_data):
    """``ct_cov`` of the T cells lacks some values and keeps the rest."""
    backed = ad.read_h5ad(shared_data / "tcells_7donors.h5ad", backed="r")
    obs = backed.obs
    backed.file.close()
    categories = categories_of(obs["ct_cov"])
    codes, _ = encode(obs["ct_cov"], categories)
    assert len(categories) == 10
    assert 0 < (codes == -1).sum() < 0.1 * len(obs)
    with pytest.raises(ValueError, match=r"adata\.obs\['Sex'\] has only one category"):
        categories_of(obs["Sex"])


# finding phenotypes


def frame(**columns):
    return pd.DataFrame({name: np.resize(np.array(values, dtype=object), 40) for name, values in columns.items()})


def test_usual_names_are_found_in_their_order(pbmc):
    obs = frame(disease=["x", "y"], other=["a", "b"], sex=["f", "m"], development_stage=["1", "2"], organ=["a", "b"])
    assert find_phenotypes(obs) == ["sex", "organ", "development_stage", "disease"]
    assert find_phenotypes(pbmc.obs) == ["bulk_labels", "phase"]
    assert resolve_phenotypes(pbmc.obs, None) == ["bulk_labels", "phase"]


def test_of_several_aliases_the_first_that_can_be_used_is_taken():
    obs = frame(gender=["f", "m"], sex=["f", "f"], cell_type=["a", "b"], celltype=["a", "b"], age=[1, 2], tissue=["x"])
    assert find_phenotypes(obs) == ["gender", "cell_type", "age"]


@pytest.mark.parametrize(
    ("values", "looks"),
    [
        (["a", "b"] * 20, True),
        (["a"] * 40, False),
        (["a", None] * 20, False),
        ([f"cell{i}" for i in range(40)], False),
        (np.linspace(0, 1, 40), False),
        (np.tile(np.linspace(0, 1, 150), 5), False),
        ([1, 2] * 20, True),
        ([True, False] * 20, True),
        ([True, None, False, True] * 10, True),
    ],
    ids=[
        "two",
        "one",
        "one and none",
        "identifiers",
        "measurements",
        "repeated measurements",
        "int",
        "bool",
        "bool with none",
    ],
)
def test_looks_like_phenotype(values, looks):
    assert looks_like_phenotype(pd.Series(values)) == looks


def test_candidates(simulated, pbmc):
    assert candidates(simulated.obs) == ["cell_type", "sex", "donor"]
    assert candidates(pbmc.obs) == ["bulk_labels", "phase", "louvain"]
    pbmc.obs["polygene_phase"] = pbmc.obs["phase"]  # a prediction
    assert candidates(pbmc.obs) == ["bulk_labels", "phase", "louvain"]


@pytest.mark.parametrize("asked", ["sex", ["sex"], ("sex",)], ids=["text", "list", "tuple"])
def test_named_phenotypes_are_taken(asked, simulated):
    assert resolve_phenotypes(simulated.obs, asked) == ["sex"]


def test_no_phenotype_is_found(simulated):
    obs = simulated.obs[["donor"]].assign(batch=simulated.obs["sex"])
    with pytest.raises(
        ValueError,
        match=r"`phenotypes`: found None, but no column .* common name \(\['sex', 'gender', .*\] and \d+ more\)"
        r".* look like phenotypes: \['donor', 'batch'\]\. Pass some of them",
    ):
        resolve_phenotypes(obs, None)


@pytest.mark.parametrize(
    ("asked", "error", "message"),
    [
        (
            ["sex", "celltype"],
            KeyError,
            r"`phenotypes`: \['celltype'\] are not columns .*: \['cell_type', 'sex', 'donor'\]",
        ),
        ([], ValueError, "`phenotypes`: found an empty list"),
        (["sex", "donor", "sex"], ValueError, r"`phenotypes`: found a column twice in \['sex', 'donor', 'sex'\]"),
    ],
    ids=["unknown", "empty", "twice"],
)
def test_phenotypes_that_cannot_be_resolved(asked, error, message, simulated):
    with pytest.raises(error, match=message):
        resolve_phenotypes(simulated.obs, asked)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([None, np.nan, "unknown"], r"`phenotypes`: all 3 values of adata\.obs\['x'\] are missing"),
        (pd.Categorical([None, None], categories=["a", "b"]), r"all 2 values of adata\.obs\['x'\] are missing"),
        (["a", "a", None], r"`phenotypes`: adata\.obs\['x'\] has only one category, 'a'"),
        ([f"cell{i}" for i in range(40)], r"has 40 different values in 40 cells, like an identifier"),
        ([f"cell{i // 2}" for i in range(39)] + [None] * 9, r"has 20 different values in 39 cells, like an identifier"),
        (np.linspace(0, 1, 101), r"`phenotypes`: adata\.obs\['x'\] has 101 different values, like a measurement"),
        ([f"cell{i}" for i in range(1001)], r"adata\.obs\['x'\] has 1001 different values, like .* identifier"),
    ],
    ids=["missing", "missing categorical", "one category", "names", "nearly names", "measurements", "identifiers"],
)
def test_columns_that_are_no_phenotype(values, message):
    with pytest.raises(ValueError, match=message):
        categories_of(pd.Series(values, name="x"))


def test_labels_that_stand_for_numbers_are_in_their_order():
    column = pd.Series(["34-year-old stage", "5-year-old stage", "6-month-old stage"], name="age")
    assert categories_of(column) == ["6-month-old stage", "5-year-old stage", "34-year-old stage"]
