import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from polygene_scverse.data.read._expression import Expression
from polygene_scverse.data.read._ranking import rank_genes
from polygene_scverse.evaluation._folds import Labels, Training, fill_columns, group_codes, make_folds, train_fold


@pytest.fixture
def obs():
    """Twelve donors of seven cells, every second one with flu; cell types within donors."""
    donor = np.repeat(np.arange(12), 7)
    return pd.DataFrame(
        {
            "donor": [f"d{i}" for i in donor],
            "centre": "c1",
            "disease": np.array(["flu", "healthy"])[donor % 2],
            "cell_type": np.array(["B", "T", "unknown"])[np.arange(84) % 3],
        }
    )


def read_labels(obs, *names):
    return {name: Labels.from_column(obs[name]) for name in names}


def test_labels(obs):
    labels = read_labels(obs, "disease", "cell_type")
    assert labels["cell_type"].categories == ["B", "T"]
    assert labels["cell_type"].codes[:4].tolist() == [0, 1, -1, 0]
    groups = group_codes(obs, "donor")
    assert labels["disease"].constant_within(groups)
    assert not labels["cell_type"].constant_within(groups)
    assert not labels["disease"].constant_within(np.zeros(84, dtype=int))


def test_labels_of_given_categories():
    label = Labels.from_column(pd.Series(["B", "T", "mast"]), ["T", "NK", "B"])
    assert label.categories == ["T", "NK", "B"]
    assert label.codes.tolist() == [2, 0, -1]


def test_values_of_the_recorded_categories():
    values = np.array([[0.2, 0.8], [0.6, 0.4], [0.5, 0.5]])
    label = Labels(["f", "m"], np.array([1, 0, -1]))
    np.testing.assert_array_equal(label.recorded_values(values), [0.8, 0.6, np.nan])


def test_a_missing_value_is_no_second_category():
    labels = Labels(["a", "b"], np.array([0, -1, 1, 1]))
    assert labels.constant_within(np.array([0, 0, 1, 1]))


def test_groups_without_a_name_are_one_group():
    codes = group_codes(pd.DataFrame({"donor": ["b", None, "a", np.nan]}), "donor")
    assert codes[1] == codes[3]
    assert len(set(codes)) == 3
    assert group_codes(pd.DataFrame(index=range(3)), None).tolist() == [0, 1, 2]


def test_groups_are_whole_and_every_cell_is_tested_once(obs):
    folds = make_folds(obs, "donor", 4, read_labels(obs, "disease", "cell_type"), 0)
    assert len(folds) == 4
    np.testing.assert_array_equal(np.sort(np.concatenate([test for _, test in folds])), np.arange(84))
    for train, test in folds:
        assert not set(obs["donor"].iloc[train]) & set(obs["donor"].iloc[test])
        np.testing.assert_array_equal(np.sort(np.r_[train, test]), np.arange(84))


def test_what_is_constant_within_groups_is_spread_over_folds(obs):
    for seed in range(5):
        for _, test in make_folds(obs, "donor", 6, read_labels(obs, "disease"), seed):
            assert obs["disease"].iloc[test].value_counts().to_dict() == {"flu": 7, "healthy": 7}


def test_folds_depend_on_the_seed(obs):
    first, again, other = (make_folds(obs, "donor", 3, {}, seed)[0][1] for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_without_groups_cells_are_split(obs):
    folds = make_folds(obs, None, 3, read_labels(obs, "disease"), 0)
    assert [len(test) for _, test in folds] == [28, 28, 28]


def test_a_given_split_is_kept(obs):
    split = np.arange(69, 6, -1), np.arange(70, 84)
    ((train, test),) = make_folds(obs, "donor", split, read_labels(obs, "disease"), 0)
    np.testing.assert_array_equal(train, np.arange(7, 70))
    np.testing.assert_array_equal(test, np.arange(70, 84))


ERRORS = {
    "many": ("donor", 13, "`split`: found 13 folds for 12 groups of 'donor'. Pass 2 or more, at most 12"),
    "one group": ("centre", 5, "`group_key`: all cells belong to one group of 'centre', but two are needed"),
    "one": ("donor", 1, "`split`: found 1 folds for 12 groups"),
    "shared": ("donor", (np.arange(10), np.arange(10, 84)), r"`split`: the groups \['d1'\] are on both sides"),
    "empty": (None, (np.arange(84), []), "`split`: found 84 training and 0 validation cells"),
    "constant": (
        "donor",
        (np.arange(7), np.arange(7, 84)),
        r"`split`: the training cells of fold 1 of 1 only have the categories \['flu'\] of 'disease'",
    ),
}


@pytest.mark.parametrize(("key", "split", "match"), ERRORS.values(), ids=ERRORS)
def test_bad_splits(obs, key, split, match):
    with pytest.raises(ValueError, match=match):
        make_folds(obs, key, split, read_labels(obs, "disease"), 0)


def test_nothing_of_other_cells_reaches_the_model(cells, small):
    """Their expression is replaced and genes are ranked in var on purpose: the same model comes out."""
    rows = np.arange(150)
    spoilt = cells.copy()
    spoilt.X = sp.vstack([cells.X[:150], 7 * cells.X[150:]], format="csr")
    spoilt.var["highly_variable_rank"] = np.arange(60)[::-1]
    training = Training("donor", 0, {**small, "n_genes": 20, "validation_size": 0.17})
    model, train_cells = train_fold(cells, rows, ["cell_type"], training)
    twin, _ = train_fold(spoilt, rows, ["cell_type"], training)
    assert model.genes == twin.genes
    assert model.edges_ == twin.edges_
    tables = [m.predict_phenotype(train_cells)["cell_type"] for m in (model, twin)]
    np.testing.assert_array_equal(*tables)
    donors = train_cells.obs["donor"].astype(str)
    assert not set(donors.iloc[model.train_indices]) & set(donors.iloc[model.validation_indices])
    assert model.genes == list(
        rank_genes(Expression.of(train_cells), np.asarray(model.train_indices)).sort_values().index[:20]
    )
    assert "highly_variable_rank" in spoilt.var
    assert "polygene" not in cells.uns


def test_columns_of_categories_that_the_model_lacks():
    table = pd.DataFrame({"b": [0.7, 0.2], "a": [0.3, 0.8]})
    np.testing.assert_array_equal(fill_columns(table, ["a", "x", "b"]), [[0.3, 0, 0.7], [0.8, 0, 0.2]])


@pytest.mark.parametrize("name", ["adata", "model", "phenotypes", "save_to"])
def test_arguments_that_are_set_for_each_fold(name):
    with pytest.raises(ValueError, match=f"`train_kwargs`: found {name}, .* Leave it out"):
        Training(None, 0, {name: None})


def test_no_seed_is_that_of_the_call(cells):
    kwargs = {
        "seed": None,
        "max_epochs": 1,
        "n_genes": 20,
        "model_kwargs": {"n_hidden": 8, "n_layers": 1, "n_heads": 1},
    }
    rows = np.arange(cells.n_obs)
    first, second = (
        train_fold(cells, rows, ["cell_type"], Training(None, 3, part))[0].get_latent_representation()
        for part in (kwargs, {**kwargs, "seed": 3})
    )
    np.testing.assert_array_equal(first, second)
