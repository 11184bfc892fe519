"""Expression of every kind and place: what is read alike, and what is refused in words."""

import warnings

import mudata
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import scipy.sparse as sp

from polygene_scverse.model import Polygene

SMALL = {"n_hidden": 16, "n_layers": 1, "n_heads": 2, "n_intermediate": 16}


# expression that cannot be used: said when it is first read


@pytest.mark.parametrize(
    ("value", "match"),
    [
        (-1.0, r"adata.X has negative values \(lowest -1\)"),
        (np.nan, "1 values of adata.X are NaN"),
        (np.inf, "1 values of adata.X are infinite"),
    ],
    ids=["negative", "NaN", "infinite"],
)
@pytest.mark.parametrize("dense", [False, True], ids=["sparse", "dense"])
def test_expression_of_another_kind_is_refused(cells, model_of, value, match, dense):
    adata = cells()
    x = adata.X.toarray()
    x[3, 5] = value
    adata.X = x if dense else sp.csr_matrix(x)
    with pytest.raises(ValueError, match=match):
        model_of(adata).train(max_epochs=1)


@pytest.mark.parametrize("dense", [False, True], ids=["sparse", "dense"])
def test_a_value_that_no_logarithm_has_is_refused(cells, model_of, dense):
    adata = cells()
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    x = adata.X.toarray()
    x[3, 5] = 99.5
    adata.X = x if dense else sp.csr_matrix(x)
    with pytest.raises(ValueError, match=r"adata\.X was read as log1p of .* has values up to 99\.5, which such data"):
        model_of(adata).train(max_epochs=1)


def test_counts_of_which_one_has_decimals_are_counts(cells, model_of):
    """As removal of ambient RNA leaves them."""
    adata = cells()
    x = adata.X.toarray()
    x[3, 5] = 99.5
    adata.X = x
    model = model_of(adata)
    model.train(max_epochs=1, enable_progress_bar=False)
    values = model._cells(None).read_all().cells.matrix(40).toarray()
    np.testing.assert_allclose(values, np.log1p(1e4 * x / x.sum(1, keepdims=True)), rtol=1e-5)


def test_the_error_on_scaled_data_names_what_could_be_used(cells, model_of):
    adata = cells()
    adata.layers["counts"] = adata.X.copy()
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    adata.raw = adata
    adata.X = sc.pp.scale(adata.X.toarray())
    adata.layers["scaled"] = adata.X.copy()
    with pytest.raises(ValueError, match=r"negative values.*here for example by layer='counts' or use_raw=True\.$"):
        model_of(adata).train(max_epochs=1)


@pytest.mark.parametrize("setup", [{"layer": "counts"}, {"use_raw": True}], ids=["layer", "raw"])
def test_layer_and_raw_are_read_instead(cells, model_of, setup):
    adata = cells()
    expected = model_of(adata.copy())
    adata.layers["counts"] = adata.X.copy()
    adata.raw = adata
    adata.X = sc.pp.scale(adata.X.toarray())
    model = model_of(adata, setup=setup)
    for m in (expected, model):
        m.train(max_epochs=1, enable_progress_bar=False)
    pd.testing.assert_frame_equal(model.predict_phenotype()["sex"], expected.predict_phenotype()["sex"])


def test_counts_and_their_logarithm_are_the_same_to_the_model(cells, model_of):
    counts, logged = cells(), cells()
    sc.pp.normalize_total(logged, target_sum=1e4)
    sc.pp.log1p(logged)
    models = [model_of(counts), model_of(logged)]
    for model in models:
        model.train(max_epochs=1, enable_progress_bar=False)
    np.testing.assert_allclose(models[0].edges_, models[1].edges_, rtol=1e-5)
    predictions = [model.predict_phenotype()["sex"].to_numpy() for model in models]
    np.testing.assert_allclose(*predictions, atol=0.01)


# storage


@pytest.mark.parametrize(
    "store",
    [sp.csc_matrix, sp.csr_array, lambda x: x.toarray(), lambda x: x.astype(np.int64), lambda x: x.astype(np.float64)],
    ids=["csc", "csr_array", "dense", "int64", "float64"],
)
def test_data_of_any_kind_train_and_predict_alike(cells, model_of, store):
    adata, expected = cells(), model_of(cells())
    adata.X = store(adata.X)
    model = model_of(adata)
    for m in (model, expected):
        m.train(max_epochs=1, enable_progress_bar=False)
    pd.testing.assert_frame_equal(model.predict_phenotype()["sex"], expected.predict_phenotype()["sex"])


@pytest.mark.parametrize("store", [sp.csr_matrix, sp.csc_matrix, np.asarray], ids=["csr", "csc", "dense"])
def test_backed_data_train_and_predict_alike(cells, model_of, store, tmp_path):
    adata, expected = cells(), model_of(cells())
    adata.X = store(adata.X.toarray())
    adata.write_h5ad(tmp_path / "cells.h5ad")
    backed = sc.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    model = model_of(backed)
    for m in (model, expected):
        m.train(max_epochs=1, enable_progress_bar=False)
    pd.testing.assert_frame_equal(model.predict_phenotype()["sex"], expected.predict_phenotype()["sex"])
    rows = [40, 3, 17]
    some = expected.predict_phenotype(indices=rows)["sex"]
    pd.testing.assert_frame_equal(model.predict_phenotype(indices=rows)["sex"], some)
    assert backed.isbacked
    backed.file.close()


# MuData


def multimodal(cells, **kwargs):
    rna = cells(**kwargs)
    protein = sc.AnnData(np.ones((rna.n_obs, 3), dtype=np.float32), obs=pd.DataFrame(index=rna.obs_names))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        with mudata.set_options(pull_on_update=False):
            return mudata.MuData({"rna": rna, "protein": protein})


def test_mudata_end_to_end(cells, model_of, tmp_path):
    mdata, alone = multimodal(cells), cells()
    Polygene.setup_mudata(mdata, phenotype_keys=["cell_type", "sex"])
    genes = list(alone.var_names)
    model, expected = Polygene(mdata, genes=genes, **SMALL), model_of(alone)
    for m in (model, expected):
        m.train(max_epochs=1, enable_progress_bar=False)
    predicted = model.predict_phenotype()["cell_type"]
    pd.testing.assert_frame_equal(predicted, expected.predict_phenotype()["cell_type"])
    np.testing.assert_array_equal(model.get_latent_representation(mdata), expected.get_latent_representation())
    model.save(tmp_path / "model", save_anndata=True)
    for data in (False, mdata, None):
        loaded = Polygene.load(tmp_path / "model", adata=data)
        pd.testing.assert_frame_equal(loaded.predict_phenotype(mdata)["cell_type"], predicted)
    pd.testing.assert_frame_equal(loaded.predict_phenotype()["cell_type"], predicted)
    query = multimodal(cells, n_obs=20, seed=3)
    assert model.predict_phenotype(query)["sex"].shape == (20, 2)
    pd.testing.assert_frame_equal(
        model.predict_phenotype(query)["sex"], model.predict_phenotype(query.mod["rna"])["sex"]
    )


def test_mudata_phenotypes_are_found(cells):
    mdata = multimodal(cells)
    Polygene.setup_mudata(mdata)
    assert list(Polygene(mdata, genes=["gene_0"], **SMALL).categories) == ["sex", "cell_type"]


def test_unknown_modality_is_refused(cells):
    with pytest.raises(KeyError, match=r"`mod`: 'atac' is not one of the modalities \['rna', 'protein'\]"):
        Polygene.setup_mudata(multimodal(cells), mod="atac")


def test_rows_may_be_a_slice(trained_model):
    expected = trained_model.predict_phenotype(indices=[2, 3, 4])["sex"]
    pd.testing.assert_frame_equal(trained_model.predict_phenotype(indices=slice(2, 5))["sex"], expected)
    with pytest.raises(ValueError, match="`indices`: found none"):
        trained_model.predict_phenotype(indices=slice(0, 0))
