import logging
import warnings

import anndata as ad
import numpy as np
import pytest

import polygene_scverse as pgs


def test_the_same_cells_with_a_phenotype_set(trained):
    cells, model = trained
    before = cells.copy()
    result = pgs.tl.counterfactual(cells, {"sex": "male"})
    assert list(result.obs_names) == list(cells.obs_names)
    assert list(result.var_names) == model.genes
    assert result.var["measured"].all()
    note = {"phenotypes": {"sex": "male"}, "columns": {"sex": "sex"}, "keep": 0.0, "seed": 0}
    assert result.uns["polygene"]["counterfactual"] == note
    x = cells.X.toarray()
    logged = np.log1p(1e4 * x / x.sum(1, keepdims=True))[:, cells.var_names.get_indexer(model.genes)]
    np.testing.assert_allclose(result.layers["observed"].toarray(), logged, rtol=1e-5)
    male = (cells.obs["sex"] == "male").to_numpy()
    np.testing.assert_array_equal(result.X[male], result.layers["unchanged"][male])
    shift = result.to_df().mean() - result.to_df("unchanged").mean()
    assert set(shift.abs().nlargest(6).index) == {f"gene{i}" for i in range(30, 36)}
    np.testing.assert_array_equal(cells.X.toarray(), before.X.toarray())
    assert cells.obs.equals(before.obs)
    assert set(cells.uns) == set(before.uns)
    assert not len(cells.layers)


def test_more_of_the_cell_is_kept(trained):
    cells, model = trained
    genes = model.genes[:7]
    result = pgs.tl.counterfactual(cells, {"sex": "male"}, keep=0.5, genes=genes)
    assert result.shape == (cells.n_obs, 7)
    same = (cells.obs["cell_type"] == "B cell") & (cells.obs["sex"] == "female")
    assert len(np.unique(result.X[same], axis=0)) > 5
    male = (cells.obs["sex"] == "male").to_numpy()
    np.testing.assert_array_equal(result.X[male], result.layers["unchanged"][male])


@pytest.mark.filterwarnings("ignore:The genes of these data had", "ignore:`adata`. phenotypes are not recorded")
def test_it_survives_a_file_and_other_data(trained, tmp_path, caplog):
    cells, model = trained
    new = cells[:50, ::2].copy()
    del new.obs["sex"]
    with caplog.at_level(logging.INFO), pytest.warns(UserWarning, match="genes are unmeasured"):
        result = pgs.tl.counterfactual(new, {"sex": "male", "cell_type": "T cell"}, model=model)
    assert "2 x 50 cells x 60 genes" in caplog.text
    assert result.var["measured"].sum() == 30
    result.write_h5ad(tmp_path / "result.h5ad")
    assert ad.read_h5ad(tmp_path / "result.h5ad").uns["polygene"]["counterfactual"]["phenotypes"]["sex"] == "male"


@pytest.mark.filterwarnings("ignore:.*the model was not trained on")
def test_cells_without_a_category_of_the_model_are_counted(trained):
    """A label that the model does not know is like none: both phenotypes would be averaged over."""
    cells, model = trained
    new = cells[:40].copy()
    new.obs["sex"] = new.obs["sex"].astype(str)
    new.obs.loc[new.obs_names[:25], "sex"] = "hermaphrodite"
    new.obs.loc[new.obs_names[25:28], "sex"] = None
    words = r"not recorded, or with a category that the model does not know \('sex' in 28 of 40 cells\)"
    with pytest.warns(UserWarning, match=words):
        pgs.tl.counterfactual(new, {"cell_type": "T cell"}, model=model)


@pytest.mark.parametrize(
    ("phenotypes", "kwargs", "words"),
    [
        ({"age": "old"}, {}, r"'age', but it must be one of \['cell_type', 'sex'\]"),
        ({"sex": "other"}, {}, r"found 'other', but the categories of 'sex' are \['female', 'male'\]"),
        ({"sex": None}, {}, "found None, but the categories"),
        ({}, {}, r"`phenotypes`: found {}, but a phenotype and its category are needed"),
        ("sex", {}, "Pass a mapping such as"),
        ({"sex": "male"}, {"keep": 1.0}, "`keep`: found 1.0, but it must be at least 0 and below 1"),
        ({"sex": "male"}, {"genes": ["gene1", "nope"]}, r"of which \['nope'\] are not among the 60 genes"),
        ({"sex": "male"}, {"genes": ["gene1", "gene2", "gene1"]}, r"`genes`: \['gene1'\] occur more than once"),
        ({"sex": "male"}, {"genes": []}, "`genes`: found an empty list"),
        ({"sex": "male"}, {"batch_size": 0}, "`batch_size`: found 0"),
    ],
)
def test_what_is_not_the_models_is_refused(trained, phenotypes, kwargs, words):
    with pytest.raises(ValueError, match=words):
        pgs.tl.counterfactual(trained[0], phenotypes, **kwargs)


def test_no_gene_decoder(cells, small):
    network = {**small["model_kwargs"], "gene_decoder": False}
    model = pgs.tl.train(cells, phenotypes=["cell_type", "sex"], **{**small, "model_kwargs": network})
    for ask in (
        lambda: pgs.tl.counterfactual(cells, {"sex": "male"}),
        lambda: pgs.tl.impute(cells),
        lambda: pgs.tl.generate({"sex": "male"}, n_obs=3, model=model),
    ):
        with pytest.raises(ValueError, match="it has no gene decoder"):
            ask()


def test_too_much_is_refused_before_it_is_made(trained, monkeypatch):
    from polygene_scverse.abilities import _expected_expression

    monkeypatch.setattr(_expected_expression, "MAX_VALUES", 30_000)
    with pytest.raises(ValueError, match=r"60 genes in 300 cells .* Pass fewer cells, at most 250, or name the genes"):
        pgs.tl.counterfactual(trained[0], {"sex": "male"})
    assert pgs.tl.counterfactual(trained[0], {"sex": "male"}, genes=["gene30"]).shape == (300, 1)


def test_phenotypes_that_are_not_recorded_are_named(trained):
    cells, model = trained
    new = cells[:50].copy()
    del new.obs["sex"]
    new.obs.iloc[:26, new.obs.columns.get_loc("cell_type")] = np.nan
    n = int(new.obs["cell_type"].isna().sum())
    words = (
        rf"'cell_type' in {n}, 'sex' in 50 of 50 cells.*same in all cells.*'sex'\] = adata.obs\['polygene_sex_filled'"
    )
    with pytest.warns(UserWarning, match=words):
        pgs.tl.counterfactual(new, {"sex": "male"}, genes=model.genes[:2], model=model)
    pgs.tl.fill_phenotype(new, model=model)
    for name in ("sex", "cell_type"):
        new.obs[name] = new.obs[f"polygene_{name}_filled"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pgs.tl.counterfactual(new, {"sex": "male"}, genes=model.genes[:2], model=model)


def test_concatenated_results(trained):
    """anndata.concat drops var unless it is told to keep it."""
    cells, model = trained
    result = pgs.tl.counterfactual(cells, {"sex": "male"}, model=model)
    parts = [result[:100], result[100:]]
    with pytest.raises(KeyError, match=r"var\['measured'\].*merge='same'"):
        pgs.get.counterfactual(ad.concat(parts, uns_merge="same"))
    whole = ad.concat(parts, merge="same", uns_merge="same")
    assert pgs.get.counterfactual(whole).equals(pgs.get.counterfactual(result))
