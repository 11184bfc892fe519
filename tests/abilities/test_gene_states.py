"""Mean states of genes by context, against one cell at a time."""

import numpy as np
import pandas as pd
import pytest
import torch

from polygene_scverse.abilities import _gene_states
from polygene_scverse.abilities._gene_states import check_size, find_contexts, find_pairs, gene_states
from polygene_scverse.engine import INPUTS, Engine, Query, _engine


@pytest.fixture
def model(trained_model):
    return trained_model


@pytest.fixture
def direct(model, query):
    """Sums and numbers of cells by context and gene, cell after cell, from the states of the whole sentence."""

    def direct(codes, n_contexts):
        sums = np.zeros((n_contexts, model.layout.n_genes, 16))
        n_cells = np.zeros((n_contexts, model.layout.n_genes), dtype=int)
        s = model.layout.n_special
        table = model._cells(query).read_all()
        for cell, code in enumerate(codes):
            batch = Query().batch(table, np.array([cell]))
            with torch.inference_mode():
                states = model.module.states(*(batch[name] for name in INPUTS[:3]))[0, s:].numpy()
            genes = batch["positions"][0, s:].numpy() - model.layout.first_gene_position
            if code >= 0:
                sums[code, genes] += states
                n_cells[code, genes] += 1
        with np.errstate(invalid="ignore"):
            return sums / n_cells[..., None], n_cells

    return direct


def test_means_are_over_the_cells_of_a_context_that_express_a_gene(model, query, direct):
    query.obs["cell_type"] = query.obs["cell_type"].cat.set_categories(["cell_type_2", "cell_type_0"])
    found = model.get_gene_states(query, groupby="cell_type", batch_size=7)
    assert found.contexts == ["cell_type_2", "cell_type_0"]
    assert found.genes == model.genes
    means, n_cells = direct(query.obs["cell_type"].cat.codes, 2)
    np.testing.assert_array_equal(found.n_cells, n_cells)
    assert (n_cells > 3).any()
    assert found.means.dtype == np.float32
    np.testing.assert_allclose(found.means, means, atol=1e-5)


def test_without_groups_all_cells_are_one_context(model, query, direct):
    found = model.get_gene_states(query)
    assert found.contexts == ["all"]
    means, n_cells = direct(np.zeros(query.n_obs, dtype=int), 1)
    np.testing.assert_array_equal(found.n_cells, n_cells)
    np.testing.assert_allclose(found.means, means, atol=1e-5)


def test_the_mean_over_genes_is_the_embedding_of_genes(model, query):
    """Of one cell; the embedding is computed elsewhere."""
    found = model.get_gene_states(query, indices=[3])
    embedded = model.get_latent_representation(query, pooling="genes", indices=[3])
    np.testing.assert_allclose(np.nanmean(found.means[0], axis=0), embedded[0], atol=1e-5)


def test_numbers_of_cells_are_those_of_the_counts(model, query):
    expected = (query[:, model.genes].X.toarray() > 0).sum(0)
    np.testing.assert_array_equal(model.get_gene_states(query).n_cells[0], expected)


def test_a_gene_that_no_cell_expresses_has_no_state(model, query):
    some = query.copy()
    some.X = some.X.multiply(np.arange(some.n_vars) != 5).tocsr()
    found = model.get_gene_states(some)
    assert found.n_cells[0, 5] == 0
    assert np.isnan(found.means[0, 5]).all()
    assert not np.isnan(found.means[0, 6]).any()


def test_genes_are_matched_by_name_and_unmeasured_ones_have_no_state(model, query):
    some = query[:, query.var_names[::-1][4:-4]].copy()
    said = pytest.warns(UserWarning, match="total counts of cells, which are needed for normalisation, are estimated")
    with said, pytest.warns(UserWarning, match="4 of the model's 36 genes are unmeasured"):
        found = model.get_gene_states(some)
    np.testing.assert_array_equal(np.flatnonzero(found.n_cells[0] == 0)[:4], [0, 1, 2, 3])
    assert np.isnan(found.means[0, :4]).all()


def test_blocks_and_batches_change_nothing(model, query, monkeypatch):
    expected = model.get_gene_states(query, groupby="sex", batch_size=64)
    monkeypatch.setattr(_engine, "BLOCK", 11)
    found = model.get_gene_states(query, groupby="sex", batch_size=3)
    np.testing.assert_array_equal(found.n_cells, expected.n_cells)
    np.testing.assert_allclose(found.means, expected.means, atol=1e-5)


def test_cells_without_a_context_are_left_out(model, query):
    query.obs["batch"] = np.where(np.arange(query.n_obs) < 20, "first", "unknown")
    found, expected = model.get_gene_states(query, groupby="batch"), model.get_gene_states(query, indices=range(20))
    assert found.contexts == ["first"]
    np.testing.assert_array_equal(found.n_cells, expected.n_cells)
    np.testing.assert_allclose(found.means, expected.means, atol=1e-5)


def test_phenotypes_are_hidden_unless_given(model, query):
    other = query.copy()
    other.obs["sex"] = query.obs["sex"].cat.codes.map({0: "sex_1", 1: "sex_0"}).astype("category")
    hidden = [model.get_gene_states(x).means for x in (query, other)]
    np.testing.assert_array_equal(*hidden)
    shown = [model.get_gene_states(x, given="sex").means for x in (query, other)]
    assert np.nanmax(np.abs(shown[0] - shown[1])) > 1e-4


@pytest.mark.parametrize(
    ("values", "match"),
    [
        (["unknown"] * 50, r"`groupby`: all 50 values of adata.obs\['x'\] are missing"),
        (np.linspace(0, 1, 50), r"`groupby`: adata.obs\['x'\] has 50 different values"),
    ],
    ids=["missing", "measurements"],
)
def test_columns_that_are_no_contexts_are_refused(values, match, model, query, monkeypatch):
    monkeypatch.setattr(_gene_states, "MAX_CONTEXTS", 49)
    query.obs["x"] = pd.Series(values, index=query.obs_names)
    with pytest.raises(ValueError, match=match):
        model.get_gene_states(query, groupby="x")


def test_an_unknown_column_is_refused(model, query):
    with pytest.raises(KeyError, match=r"`groupby`: \['organ'\] are not columns"):
        model.get_gene_states(query, groupby="organ")


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_model_and_data_are_left_alone(training, model, query):
    before = query.copy()
    model.module.train(training)
    model.get_gene_states(query, groupby="sex")
    assert model.module.training is training
    model.module.eval()
    pd.testing.assert_frame_equal(query.obs, before.obs)
    assert (list(query.uns), list(query.varm)) == (list(before.uns), [])


def test_own_data_are_the_default(model):
    np.testing.assert_array_equal(model.get_gene_states().n_cells, model.get_gene_states(model.adata).n_cells)


def test_what_is_not_there_is_said(model, model_of, query):
    with pytest.raises(ValueError, match="`adata`: the model was loaded without data"):
        model.without_data().get_gene_states()
    with pytest.raises(RuntimeError, match="The model is not trained"):
        model_of().get_gene_states(query)


def test_cells_may_come_from_anywhere(model, query):
    """Here from memory, as tokens."""
    contexts, codes = find_contexts(query, "sex", np.arange(query.n_obs))
    assert contexts == ["sex_0", "sex_1"]
    table = model._cells(query).read_all()
    found, expected = (
        gene_states(Engine(model.module), table, Query(), contexts, codes),
        model.get_gene_states(query, groupby="sex"),
    )
    np.testing.assert_array_equal(found.means, expected.means)
    np.testing.assert_array_equal(found.n_cells, expected.n_cells)
    assert (found.contexts, found.genes) == (expected.contexts, expected.genes)


def test_contexts_are_those_of_the_chosen_cells(query):
    query.obs["part"] = np.where(np.arange(50) < 20, "b", np.where(np.arange(50) < 40, "a", None))
    contexts, codes = find_contexts(query, "part", np.array([45, 3, 30, 4]))
    assert contexts == ["a", "b"]
    assert codes.tolist() == [-1, 1, 0, 1]
    assert find_contexts(query, "part", np.array([3, 4]))[0] == ["b"]
    assert find_contexts(query, None, np.array([3, 4]))[0] == ["all"]


def test_pairs_are_those_that_occur(query):
    query.obs["part"] = np.where(np.arange(50) < 20, "b", np.where(np.arange(50) < 40, "a", None))
    query.obs["who"] = np.where(np.arange(50) < 30, "x", "y")
    query.obs.loc[query.obs_names[3], "who"] = None
    contexts, groups, codes = find_pairs(query, "part", "who", np.array([45, 3, 30, 4, 22, 31]))
    assert list(zip(contexts, groups, strict=True)) == [("a", "x"), ("a", "y"), ("b", "x")]
    assert codes.tolist() == [-1, -1, 1, 2, 0, 1]
    with pytest.raises(ValueError, match="`group_key`: no cell has both a context and a value"):
        find_pairs(query, "part", "who", np.array([45, 3]))


def test_states_that_fill_the_memory_are_refused():
    check_size(500, 3000, 64)
    with pytest.raises(ValueError, match=r"`groupby`: states of 3000 genes in 5000 contexts.* would take 7\.7 GB"):
        check_size(5000, 3000, 64)
