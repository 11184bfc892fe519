"""What the model sees of the phenotypes, and that data and model are left as they were."""

import warnings

import numpy as np
import pandas as pd
import pytest
import torch

NAMES = ("cell_type", "sex")


@pytest.fixture
def model(trained_model):
    return trained_model


def assert_same(a, b, tolerance=0.0):
    for name in NAMES:
        pd.testing.assert_index_equal(a[name].index, b[name].index)
        pd.testing.assert_index_equal(a[name].columns, b[name].columns)
        np.testing.assert_allclose(a[name], b[name], atol=tolerance, rtol=0)


# what is shown


def test_recorded_phenotypes_are_not_seen(model, query):
    """A prediction or an embedding cannot copy its own label."""
    other = query.copy()
    other.obs["sex"] = query.obs["sex"].cat.codes.map({0: "sex_1", 1: "sex_0"}).astype("category")
    assert_same(model.predict_phenotype(query), model.predict_phenotype(other))
    latent = [model.get_latent_representation(x, pooling="sex") for x in (query, other)]
    np.testing.assert_array_equal(*latent)


def test_given_phenotypes_are_seen(model, query):
    plain, given = model.predict_phenotype(query), model.predict_phenotype(query, given="sex")
    assert not np.array_equal(plain["cell_type"], given["cell_type"])  # what is not seen leaves them bit-identical
    latent = [model.get_latent_representation(query, given=given) for given in (None, ["sex"])]
    assert np.abs(latent[0] - latent[1]).max() > 1e-4


def test_a_given_value_that_is_missing_is_hidden(model, query):
    some = query.copy()
    some.obs.loc[some.obs_names[:20], "sex"] = np.nan
    predicted = model.predict_phenotype(some, given="sex")
    for rows, given in ((slice(0, 20), None), (slice(20, 50), "sex")):
        expected = model.predict_phenotype(query, given=given)
        assert_same(
            {n: t.iloc[rows] for n, t in predicted.items()}, {n: t.iloc[rows] for n, t in expected.items()}, 1e-6
        )


def test_a_given_label_that_is_not_known_is_said_once_and_hidden(model, query):
    other = query.copy()
    other.obs["sex"] = "intersex"
    with pytest.warns(UserWarning, match=r"obs\['sex'\]: the model was not trained on \['intersex'\]") as caught:
        predicted = model.predict_phenotype(other, given="sex")
    assert len(caught) == 1
    assert_same(predicted, model.predict_phenotype(query))


def test_labels_that_are_not_shown_need_not_be_known(model, query):
    expected = model.predict_phenotype(query)
    query.obs["sex"] = "intersex"
    assert_same(model.predict_phenotype(query), expected)
    query.obs = query.obs[[]]
    assert_same(model.predict_phenotype(query), expected)


def test_a_given_column_must_be_there(model, query):
    del query.obs["sex"]
    with pytest.raises(KeyError, match=r"`given`: \['sex'\] not among the columns of adata.obs"):
        model.predict_phenotype(query, given="sex")


@pytest.mark.parametrize("argument", ["phenotypes", "given"])
def test_an_unknown_phenotype_is_refused(model, query, argument):
    match = rf"`{argument}`: found 'age', but it must be one of \['cell_type', 'sex'\]"
    with pytest.raises(ValueError, match=match):
        model.predict_phenotype(query, **{argument: "age"})


# what is left alone


def test_query_data_are_left_alone(model, query):
    expected = query.copy()
    model.predict_phenotype(query, given="sex")
    model.get_latent_representation(query)
    pd.testing.assert_frame_equal(query.obs, expected.obs)
    np.testing.assert_array_equal(query.X.toarray(), expected.X.toarray())
    for part in ("uns", "obsm", "varm", "layers", "obsp"):
        assert set(getattr(query, part)) == set(getattr(expected, part)), part


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_the_mode_is_left_alone(model, query, training):
    expected = model.predict_phenotype(query)
    model.module.train(training)
    try:
        assert_same(model.predict_phenotype(query), expected)
        assert model.module.training is training
        with pytest.raises(ValueError, match="found 0 cells"):
            model.predict_phenotype(query[:0])
        assert model.module.training is training
    finally:
        model.module.eval()


def test_random_state_and_threads_are_left_alone(model, query):
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    model.predict_phenotype(query)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads


def test_to_device(model, query):
    expected = model.predict_phenotype(query)
    model.to_device("cpu")
    assert_same(model.predict_phenotype(query), expected)


def test_an_untrained_model_is_refused(model_of, query):
    with pytest.raises(RuntimeError, match=r"The model is not trained. Call train\(\) first"):
        model_of(query).predict_phenotype()


def test_a_model_without_data_needs_some(model):
    with pytest.raises(ValueError, match="`adata`: the model was loaded without data"):
        model.without_data().predict_phenotype()


def test_nothing_is_said_where_all_is_well(model, query):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.predict_phenotype(query)
    assert not [w for w in caught if w.category is UserWarning]
