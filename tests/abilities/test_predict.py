"""Prediction of data of any kind: what comes back, and that order, batches and storage do not matter."""

import warnings
from contextlib import nullcontext

import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import scipy.sparse as sp
import torch

from polygene_scverse.abilities._predict import category_log_shares, linear_share, phenotype_logits, predict
from polygene_scverse.data.read import _expression
from polygene_scverse.engine import INPUTS, Engine, Query, _engine
from polygene_scverse.fit import FittedState

NAMES = ("cell_type", "sex")


@pytest.fixture
def model(trained_model):
    return trained_model


def assert_same(a, b, tolerance=0.0):
    for name in NAMES:
        pd.testing.assert_index_equal(a[name].index, b[name].index)
        pd.testing.assert_index_equal(a[name].columns, b[name].columns)
        np.testing.assert_allclose(a[name], b[name], atol=tolerance, rtol=0)


# what comes back


def test_predictions_are_probabilities_of_the_categories(model, query):
    predicted = model.predict_phenotype(query)
    assert list(predicted) == list(NAMES)
    assert list(predicted["cell_type"].columns) == ["cell_type_0", "cell_type_1", "cell_type_2"]
    assert list(predicted["sex"].index) == list(query.obs_names)
    for table in predicted.values():
        np.testing.assert_allclose(table.sum(1), 1, rtol=1e-5)
        assert (table.to_numpy() >= 0).all()
        assert np.ptp(table.to_numpy()[:, 0]) > 0.02


def test_predictions_are_softmax_of_the_module(model, query):
    rows = np.arange(5)
    table = model._cells(query, rows).read_all()
    batch = Query().batch(table, rows)
    with torch.inference_mode():
        logits = model.module.predict(*(batch[name] for name in INPUTS), torch.tensor(model.fitted_.linear_share))
    expected = model.predict_phenotype(query, indices=rows)
    for name, x in zip(NAMES, logits, strict=True):
        np.testing.assert_allclose(torch.softmax(x, 1), expected[name], atol=1e-6)


@pytest.mark.parametrize("phenotypes", ["sex", ["sex"]], ids=["a word", "a list"])
def test_some_phenotypes_may_be_asked_for(model, query, phenotypes):
    some = model.predict_phenotype(query, phenotypes=phenotypes)
    assert list(some) == ["sex"]
    pd.testing.assert_frame_equal(some["sex"], model.predict_phenotype(query)["sex"])


def test_own_data_are_the_default(model):
    assert_same(model.predict_phenotype(), model.predict_phenotype(model.adata))


def test_indices_keep_their_order(model, query):
    rows = [7, 3, 3, -1]
    some, all_ = model.predict_phenotype(query, indices=rows), model.predict_phenotype(query)
    assert_same(some, {name: table.iloc[rows] for name, table in all_.items()}, 1e-6)


def test_indices_may_be_a_mask(model, query):
    mask = np.arange(50) % 3 == 0
    assert list(model.predict_phenotype(query, indices=mask)["sex"].index) == list(query.obs_names[mask])


def test_no_cell_is_refused(model, query):
    with pytest.raises(ValueError, match="`indices`: found none, but at least one cell is needed"):
        model.predict_phenotype(query, indices=[])


@pytest.mark.parametrize("batch_size", [1, 7, 1000])
def test_batches_change_nothing(model, query, batch_size):
    """Cells are batched by length, and come back in their own order."""
    assert_same(model.predict_phenotype(query, batch_size=batch_size), model.predict_phenotype(query), 1e-5)


def test_blocks_of_rows_change_nothing(model, query, monkeypatch):
    expected = model.predict_phenotype(query)
    monkeypatch.setattr(_engine, "BLOCK", 13)
    assert_same(model.predict_phenotype(query), expected, 1e-5)


def test_permuted_cells_are_predicted_alike(model, query):
    order = np.random.default_rng(0).permutation(50)
    expected = {name: table.iloc[order] for name, table in model.predict_phenotype(query).items()}
    assert_same(model.predict_phenotype(query[order].copy()), expected, 1e-6)


# genes


def test_permuted_genes_are_matched_by_name(model, query):
    order = np.random.default_rng(0).permutation(40)
    assert_same(model.predict_phenotype(query[:, order].copy()), model.predict_phenotype(query))


def test_genes_the_model_does_not_have_count_for_the_total_only(model, query):
    logged = query.copy()
    sc.pp.normalize_total(logged, target_sum=1e4)
    sc.pp.log1p(logged)
    fewer = logged[:, model.genes].copy()
    assert_same(model.predict_phenotype(fewer), model.predict_phenotype(query), 1e-5)


def test_missing_genes_are_named(model, query):
    fewer = query[:, [f"gene_{i}" for i in range(3, 40)]].copy()
    with pytest.warns(UserWarning, match="genes") as caught:
        predicted = model.predict_phenotype(fewer)
    of_totals, of_genes = (str(w.message) for w in caught)
    assert of_totals.startswith("The genes of these data had 93% of the counts in training. The total counts of cells")
    assert "3 of the model's 36 genes are unmeasured in these data: ['gene_0', 'gene_1', 'gene_2']" in of_genes
    assert np.isfinite(predicted["sex"].to_numpy()).all()


def test_no_gene_in_common_is_refused(model, query):
    query.var_names = [f"ENSG{i}" for i in range(40)]
    with pytest.raises(ValueError, match=r"none of its 40 genes, e.g. \['ENSG0'.* is among the 36 genes of the model"):
        model.predict_phenotype(query)


def test_duplicated_genes_are_refused(model, query):
    query.var_names = ["gene_1", *query.var_names[1:]]
    with pytest.raises(ValueError, match=r"1 names occur more than once in adata\.var_names"):
        model.predict_phenotype(query)


# cells


def test_a_cell_with_nothing_expressed_is_predicted(model, query):
    x = query.X.toarray()
    x[[4, 9]] = 0
    query.X = sp.csr_matrix(x)
    for rows in ([4], [4, 9], None):
        predicted = model.predict_phenotype(query, indices=rows)["cell_type"]
        assert np.isfinite(predicted.to_numpy()).all()
        for pooling in ("phenotypes", "genes", "cls"):
            assert np.isfinite(model.get_latent_representation(query, indices=rows, pooling=pooling)).all()


@pytest.mark.parametrize(
    ("value", "match"),
    [(-1.0, "adata.X has negative values"), (np.nan, "1 values of adata.X are NaN"), (np.inf, "adata.X are infinite")],
    ids=["negative", "NaN", "infinite"],
)
def test_expression_of_another_kind_is_refused(model, query, value, match):
    x = query.X.toarray()
    x[3, 5] = value
    query.X = x
    with pytest.raises(ValueError, match=match):
        model.predict_phenotype(query)


def test_empty_data_are_refused(model, query):
    with pytest.raises(ValueError, match="`adata`: found 0 cells and 40 genes"):
        model.predict_phenotype(query[:0])


@pytest.mark.parametrize(
    "store",
    [sp.csc_matrix, sp.csr_array, sp.csc_array, lambda x: x.toarray(), lambda x: x.astype(np.int32)],
    ids=["csc", "csr_array", "csc_array", "dense", "int32"],
)
def test_data_of_any_kind_are_predicted_alike(model, query, store):
    expected = model.predict_phenotype(query)
    query.X = store(query.X)
    assert_same(model.predict_phenotype(query), expected)


def test_a_view_is_predicted(model, query):
    view = query[10:30, ::-1]
    expected = {name: table.iloc[10:30] for name, table in model.predict_phenotype(query).items()}
    assert_same(model.predict_phenotype(view), expected, 1e-6)
    assert view.is_view


@pytest.mark.parametrize("dense", [False, True], ids=["sparse", "dense"])
def test_backed_data_are_predicted_alike(model, query, tmp_path, dense, monkeypatch):
    expected, rows = model.predict_phenotype(query), [30, 2, 30]
    if dense:
        query.X = query.X.toarray()
    query.write_h5ad(tmp_path / "query.h5ad")
    backed = sc.read_h5ad(tmp_path / "query.h5ad", backed="r")
    monkeypatch.setattr(_expression, "BLOCK", 13)
    assert_same(model.predict_phenotype(backed), expected)
    assert_same(model.predict_phenotype(backed, indices=rows), {n: t.iloc[rows] for n, t in expected.items()}, 1e-6)
    backed.file.close()


# plain functions of an engine, what was fitted, and cells


def test_cells_may_come_from_anywhere(model, query):
    """Here from memory, as tokens; names in any order."""
    engine, table = Engine(model.module), model._cells(query).read_all()
    found = predict(engine, model.fitted_, table, Query(), NAMES[::-1])
    assert list(found) == list(NAMES[::-1])
    for name, expected in model.predict_phenotype(query).items():
        np.testing.assert_array_equal(found[name], expected)


def test_probabilities_are_logits_over_the_temperature(model, query):
    engine, cells = Engine(model.module), model._cells(query)
    logits = phenotype_logits(engine, model.fitted_, cells)
    for name, part in zip(NAMES, logits, strict=True):
        expected = torch.softmax(torch.from_numpy(part / np.float32(model.temperature(name))), -1)
        np.testing.assert_allclose(model.predict_phenotype(query)[name], expected, atol=1e-6)
    (some,) = phenotype_logits(engine, model.fitted_, cells, slots=[1])
    np.testing.assert_array_equal(some, logits[1])


def test_a_phenotype_that_is_set_counts_as_if_it_were_recorded(model, query):
    for code, label in enumerate(model.categories["sex"]):
        other = query.copy()
        other.obs["sex"] = label
        expected = model.predict_phenotype(other, given="sex")
        question = Query(phenotypes=((1, code),))
        for name, found in predict(Engine(model.module), model.fitted_, model._cells(query), question, NAMES).items():
            np.testing.assert_array_equal(found, expected[name])


def test_a_gene_that_is_set_counts_as_if_it_were_measured_so(model, query):
    sc.pp.normalize_total(query, target_sum=1e4)
    sc.pp.log1p(query)
    edges = np.array(model.edges_)
    for value in (0.0, float(edges[4]) + 1e-3):
        other, of_bin = query.copy(), int(np.digitize(value, edges)) - 1
        x = other.X.toarray()
        x[:, other.var_names.get_loc(model.genes[6])] = value
        other.X = x
        question = Query(genes=((6, of_bin, value),))
        predicted = predict(Engine(model.module), model.fitted_, model._cells(query), question, NAMES)
        untold = pytest.warns(UserWarning, match="the target sum of the normalisation is unknown.* per 10,000")
        with untold if value else nullcontext():  # one value in all cells: no counts
            expected = model.predict_phenotype(other)
        for name, found in predicted.items():
            np.testing.assert_allclose(found, expected[name], atol=1e-5)


def test_without_what_was_fitted(model):
    """The transformer alone, and equal shares of all categories."""
    engine = Engine(model.module)
    assert linear_share(engine, FittedState()).tolist() == [0.0, 0.0]
    assert linear_share(engine, FittedState(linear_share=[0.25, 0.5])).tolist() == [0.25, 0.5]
    for shares, n in zip(category_log_shares(engine, FittedState()), (3, 2), strict=True):
        np.testing.assert_allclose(shares.exp(), np.full(n, 1 / n), rtol=1e-6)
    counts = [np.array([1.0, 2.0, 5.0], dtype=np.float32), np.array([3.0, 1.0], dtype=np.float32)]
    found = category_log_shares(engine, FittedState(category_counts=counts))
    for shares, expected in zip(found, ([1 / 8, 2 / 8, 5 / 8], [3 / 4, 1 / 4]), strict=True):
        np.testing.assert_allclose(shares.exp(), expected, rtol=1e-6)


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
    with pytest.raises(KeyError, match=r"`given`: \['sex'\] are not columns of adata.obs"):
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
