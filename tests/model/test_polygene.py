"""Set-up, gene choice and codes."""

import numpy as np
import pandas as pd
import pytest
import scanpy as sc

from polygene_scverse._constants import RANK
from polygene_scverse.datasets import pbmc68k
from polygene_scverse.model import Polygene
from polygene_scverse.module import LossConfig

SMALL = {"n_hidden": 16, "n_layers": 1, "n_heads": 2, "n_intermediate": 16}


def test_phenotypes_are_found_by_their_usual_names(cells):
    adata = cells()
    Polygene.setup_anndata(adata)
    model = Polygene(adata, genes=list(adata.var_names), **SMALL)
    assert model.categories == {
        "sex": ["sex_0", "sex_1"],
        "cell_type": ["cell_type_0", "cell_type_1", "cell_type_2"],
    }


def test_pbmc68k_is_found_and_ranked():
    adata = pbmc68k()[:200].copy()
    Polygene.setup_anndata(adata)
    model = Polygene(adata, n_genes=50, **SMALL)
    assert list(model.categories) == ["bulk_labels", "phase"]
    sc.pp.filter_genes(adata, min_cells=1)
    table = sc.pp.highly_variable_genes(adata, n_top_genes=50, inplace=False)
    assert set(model.genes) == set(adata.var_names[table["highly_variable"]])


@pytest.mark.parametrize("one", ["sex", ["sex"]], ids=["a word", "a list"])
def test_one_phenotype_may_be_named(cells, one):
    adata = cells()
    Polygene.setup_anndata(adata, phenotype_keys=one)
    assert list(Polygene(adata, genes=["gene_3", "gene_1"], **SMALL).categories) == ["sex"]


def test_setup_writes_identifiers_only(cells, model_of):
    adata = cells()
    before, obs, var = adata.X.toarray(), adata.obs.copy(), adata.var.copy()
    model_of(adata)
    np.testing.assert_array_equal(adata.X.toarray(), before)
    pd.testing.assert_frame_equal(adata.obs, obs)
    pd.testing.assert_frame_equal(adata.var, var)
    assert set(adata.uns) == {"simulation", "_scvi_uuid", "_scvi_manager_uuid"}
    assert set(adata.obsm) == {"truth"}


def test_a_view_is_refused(cells):
    with pytest.raises(ValueError, match=r"`adata`: found a view of another AnnData.* Pass adata\.copy\(\)"):
        Polygene.setup_anndata(cells()[:10])


def test_no_phenotype_found(cells):
    adata = cells()
    adata.obs = adata.obs.rename(columns={"cell_type": "kind", "sex": "side"})
    match = r"`phenotypes`: found None, but no column .* look like phenotypes: \['kind', 'side', 'donor'\]"
    with pytest.raises(ValueError, match=match):
        Polygene.setup_anndata(adata)


def test_unknown_column(cells):
    match = r"`phenotypes`: \['celltype'\] are not columns of adata.obs.*'cell_type', 'sex'"
    with pytest.raises(KeyError, match=match):
        Polygene.setup_anndata(cells(), phenotype_keys="celltype")


@pytest.mark.parametrize(
    ("value", "match"),
    [(np.nan, "all 60 values of adata.obs\\['cell_type'\\] are missing"), ("T", "only one category, 'T'")],
    ids=["all missing", "one category"],
)
def test_a_column_without_two_categories_is_refused(cells, value, match):
    adata = cells()
    adata.obs["cell_type"] = value
    with pytest.raises(ValueError, match=match):
        Polygene.setup_anndata(adata, phenotype_keys="cell_type")


@pytest.mark.parametrize("axis", ["cells", "genes"])
def test_empty_data_are_refused(cells, axis):
    adata = cells()
    adata = adata[:0].copy() if axis == "cells" else adata[:, :0].copy()
    match = "found 0 cells" if axis == "cells" else "60 cells and 0 genes"
    with pytest.raises(ValueError, match=match):
        Polygene.setup_anndata(adata, phenotype_keys=["cell_type"])


def test_empty_data_without_named_phenotypes_are_refused(cells):
    with pytest.raises(ValueError, match="`adata`: found 0 cells and 40 genes"):
        Polygene.setup_anndata(cells()[:0].copy())


def test_duplicated_genes_are_refused(cells):
    adata = cells()
    adata.var_names = ["gene_1", *adata.var_names[1:]]
    with pytest.raises(ValueError, match=r"1 names occur more than once in adata.var_names, e.g. \['gene_1'\]"):
        Polygene.setup_anndata(adata)


def test_unknown_layer_is_refused(cells):
    with pytest.raises(KeyError, match="`layer`: 'counts' is not one of the layers"):
        Polygene.setup_anndata(cells(), layer="counts")


# genes


def test_genes_are_those_of_the_lowest_ranks(cells):
    adata = cells()
    ranks = np.random.default_rng(0).permutation(40).astype(float)
    adata.var[RANK] = ranks
    Polygene.setup_anndata(adata)
    model = Polygene(adata, n_genes=7, **SMALL)
    assert model.genes == [f"gene_{i}" for i in np.argsort(ranks)[:7]]


def test_genes_not_in_the_data_are_refused(cells, model_of):
    with pytest.raises(KeyError, match=r"`genes`: \['TP53'\] are not in adata.var_names"):
        model_of(cells(), genes=["gene_1", "TP53"])


def test_genes_named_twice_are_refused(cells, model_of):
    with pytest.raises(ValueError, match=r"`genes`: \[.*\] named more than once"):
        model_of(cells(), genes=["gene_1", "gene_1"])


@pytest.mark.parametrize("n_bins", [2, 7])
def test_layout_has_the_bins_asked_for(cells, model_of, n_bins):
    model = model_of(cells(), n_bins=n_bins)
    assert model.layout.n_bins == n_bins
    assert model.layout.n_tokens == 7 + 2 + 5 + n_bins


def test_one_bin_is_refused(cells, model_of):
    with pytest.raises(ValueError, match="`n_bins`: found 1"):
        model_of(cells(), n_bins=1)


def test_unknown_size_is_refused(cells, model_of):
    with pytest.raises(ValueError, match="`size`: found 'huge'"):
        model_of(cells(), size="huge")


@pytest.mark.parametrize("loss", [{"bin_width": 2.0}, LossConfig(bin_width=2.0)], ids=["mapping", "config"])
def test_loss_values_reach_the_module(cells, model_of, loss):
    assert model_of(cells(), loss=loss).module.loss_config == LossConfig(bin_width=2.0)


def test_linear_path_may_be_left_out(cells, model_of):
    assert model_of(cells(), linear_path=False).module.linear is None
    assert model_of(cells()).module.linear.weights.shape == (40, 5)


def test_seed_decides_the_first_weights(cells, model_of):
    weights = [model_of(cells(), seed=seed).module.head.dense.weight for seed in (0, 0, 1)]
    assert weights[0].equal(weights[1])
    assert not weights[0].equal(weights[2])


def test_a_registry_alone_is_refused(cells, model_of):
    model = model_of(cells())
    with pytest.raises(ValueError, match=r"`registry`: found one without `layout`\. Use Polygene\.load"):
        Polygene(registry=model.registry_)


def test_description_says_genes_and_phenotypes(cells, model_of):
    assert "40 genes in 10 bins, phenotypes ['cell_type', 'sex']" in model_of(cells()).summary_string


# codes and data


def test_codes_are_those_of_pandas(cells, model_of):
    adata = cells(missing=0.2)
    codes = model_of(adata).codes()
    for name in ("cell_type", "sex"):
        np.testing.assert_array_equal(codes[name], adata.obs[name].cat.codes)
    np.testing.assert_array_equal(model_of(adata).codes([5, 3])["sex"], adata.obs["sex"].cat.codes.iloc[[5, 3]])


def test_a_model_without_data_predicts_the_same(cells, model_of):
    adata = cells()
    model = model_of(adata)
    model.train(max_epochs=1, enable_progress_bar=False)
    other = model.without_data()
    assert other.adata is None
    pd.testing.assert_frame_equal(other.predict_phenotype(adata)["sex"], model.predict_phenotype()["sex"])


def test_phenotypes_of_many_kinds(cells, model_of):
    adata = cells()
    rng = np.random.default_rng(0)
    adata.obs["flag"] = rng.random(60) < 0.5
    adata.obs["week"] = rng.choice([2, 10, 9], 60)
    adata.obs["age.group"] = rng.choice(["old", "young", None, "unknown"], 60)
    with pytest.warns(UserWarning, match=r"'unknown' \(.* cells in 'age.group'\) is read as missing"):
        model = model_of(adata, phenotypes=["flag", "week", "age.group"])
    assert model.categories == {"flag": ["False", "True"], "week": ["2", "9", "10"], "age.group": ["old", "young"]}
    model.train(max_epochs=1, enable_progress_bar=False)
    assert list(model.predict_phenotype()["week"].columns) == ["2", "9", "10"]
