"""Perturbed genes of AnnData."""

import anndata as ad
import numpy as np
import pytest
from pandas.testing import assert_frame_equal

import polygene_scverse as pgs


def test_markers_shift_their_phenotype(cells, small):
    model = pgs.tl.train(cells, phenotypes=["cell_type", "sex"], **{**small, "max_epochs": 20})
    before = cells.copy()
    markers = [f"gene{i}" for i in range(30, 36)]  # of sex
    result = pgs.tl.perturb(cells, markers, kind="overexpress", model=model, n_null=25)
    table = pgs.get.perturb(result, "sex").query("level == 'male'")
    assert (table["shift"] > 0).all()
    assert (table["p_value"] <= 0.25).mean() > 0.5
    assert_frame_equal(cells.obs, before.obs)
    assert set(cells.uns) == {"polygene", "_scvi_uuid", "_scvi_manager_uuid"}
    assert "perturb" not in cells.uns["polygene"]


def test_the_result_survives_a_file(trained, tmp_path):
    cells, model = trained
    result = pgs.tl.perturb(cells, ["gene1", ("gene2", "gene3")], n_null=21, responses=["gene40", "gene1"], model=model)
    assert list(result.obs_names[:2]) == ["gene1", "gene2+gene3"]
    assert result.obs["null"].sum() == 42
    assert list(result.var_names) == ["gene40", "gene1"]
    assert np.isnan(result.X[0, 1])
    assert np.isfinite(result.X[1]).all()
    expressing = (cells[:, ["gene2", "gene3"]].X.toarray() > 0).any(1).sum()
    assert result.obs["n_cells"].iloc[1] == expressing
    assert (result.obs["n_genes"].iloc[:2] == [1, 2]).all()
    result.write_h5ad(tmp_path / "result.h5ad")
    for outcome in ("cell_type", "embedding", "expression", "genes"):
        assert_frame_equal(pgs.get.perturb(ad.read_h5ad(tmp_path / "result.h5ad"), outcome),
                           pgs.get.perturb(result, outcome), check_dtype=False)  # fmt: skip


def test_the_same_seed_gives_the_same(trained):
    cells, model = trained
    first, again = (pgs.tl.perturb(cells, ["gene5"], n_null=5, model=model) for _ in range(2))
    np.testing.assert_array_equal(first.X, again.X)
    assert list(first.obs_names) == list(again.obs_names)


@pytest.mark.parametrize(
    ("genes", "kwargs", "words"),
    [
        (["nope"], {}, r"of which \['nope'\] are not among the 60 genes"),
        ([], {}, r"`genes`: found \[\], but a list of genes is needed"),
        ("gene1", {}, "`genes`: found 'gene1', but a list of genes is needed"),
        (["gene1", "gene1"], {}, "some of which occur twice"),
        ([("gene1", "gene2"), ("gene2", "gene1")], {}, "some of which occur twice"),
        (["gene1"], {"kind": "crispr"}, r"`kind`: found 'crispr'"),
        (["gene1"], {"n_null": -1}, "`n_null`: found -1"),
        ([["gene1", "gene1"]], {}, r"`genes`: \['gene1'\] occur more than once"),
        ([[]], {}, "`genes`: found an empty list"),
        (["gene1"], {"responses": []}, "`responses`: found an empty list"),
        (["gene1"], {"responses": ["nope"]}, r"of which \['nope'\] are not among the 60 genes"),
    ],
)
def test_what_cannot_be_perturbed_is_refused(trained, genes, kwargs, words):
    with pytest.raises(ValueError, match=words):
        pgs.tl.perturb(trained[0], genes, **kwargs)


@pytest.mark.parametrize("genes", [None, {"gene1": ["gene2"]}], ids=["none", "mapping"])
def test_what_is_no_list_of_genes_is_refused(trained, genes):
    with pytest.raises(TypeError, match=r"`genes`: found (NoneType|dict) .*, but names are needed"):
        pgs.tl.perturb(trained[0], genes)


@pytest.mark.filterwarnings("ignore:The genes of these data had", "ignore:.*genes are unmeasured")
def test_an_unmeasured_gene_is_refused(trained):
    cells, model = trained
    with pytest.raises(ValueError, match=r"`genes`: \['gene1'\] are not measured in adata"):
        pgs.tl.perturb(cells[:, ::2].copy(), ["gene1"], model=model)


def test_a_small_model_keeps_genes_for_responses(trained):
    """Random genes would use up all of them."""
    cells, model = trained
    result = pgs.tl.perturb(cells, ["gene1"], model=model)
    assert result.obs["null"].sum() == 29
    assert result.n_vars == 30
    assert np.isfinite(result.X[0]).all()
    both = pgs.tl.perturb(cells, ["gene1", ("gene2", "gene3")], model=model)
    assert both.n_vars >= 60 - 3 - 57 // 2


def test_the_perturbed_gene_is_the_only_response(trained):
    cells, model = trained
    result = pgs.tl.perturb(cells, ["gene1"], responses=["gene1"], n_null=3, model=model)
    assert np.isnan(result.X[0, 0])
    assert np.isfinite(result.X[1:]).all()


def test_a_number_is_no_gene(trained):
    with pytest.raises(TypeError, match="`genes`: found int"):
        pgs.tl.perturb(trained[0], [0], model=trained[1])
