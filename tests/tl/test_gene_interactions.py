import anndata as ad
import numpy as np
import pytest
from mudata import MuData
from sklearn.covariance import LedoitWolf

import polygene_scverse as pgs

STATES, N_CELLS = "polygene_gene_interactions_states", "polygene_gene_interactions_n_cells"


def test_states_are_the_models(trained):
    cells, model = trained
    pgs.tl.gene_interactions(cells, groupby="cell_type", min_cells=7)
    found = model.get_gene_states(cells, groupby="cell_type")
    note = cells.uns["polygene"]["gene_interactions"]
    assert note["contexts"] == found.contexts == ["B cell", "NK cell", "T cell"]
    genes = cells.var_names.get_indexer(found.genes)
    np.testing.assert_array_equal(cells.varm[N_CELLS][genes], found.n_cells.T)
    expected = np.where(found.n_cells[..., None] >= 7, found.means, np.nan).swapaxes(0, 1)
    assert np.isnan(expected).any()
    np.testing.assert_array_equal(cells.varm[STATES][genes], expected)


def test_genes_are_noted_from_most_to_least_variable(trained):
    cells, model = trained
    other = cells[:, ::-1].copy()
    pgs.tl.gene_interactions(other, model=model)
    assert other.uns["polygene"]["gene_interactions"]["most_variable"] == model.genes
    assert model.genes != list(other.var_names)


def test_the_covariance_is_that_of_the_genes_with_a_state(trained):
    cells, _ = trained
    pgs.tl.gene_interactions(cells, groupby="sex", min_cells=20)
    for i, covariance in enumerate(cells.uns["polygene"]["gene_interactions"]["covariance"]):
        known = cells.varm[N_CELLS][:, i] >= 20
        assert 2 < known.sum() < cells.n_vars
        expected = LedoitWolf().fit(cells.varm[STATES][known, i].astype(float)).covariance_
        np.testing.assert_allclose(covariance, expected, atol=1e-6)


def test_genes_of_other_order_and_genes_that_the_model_does_not_have(trained):
    cells, model = trained
    more = ad.concat([cells[:, ::-1], ad.AnnData(np.ones((cells.n_obs, 1), np.float32), cells.obs)], axis=1)
    more.var_names = [*cells.var_names[::-1], "new"]
    more.obs = cells.obs
    pgs.tl.gene_interactions(more, model=model)
    pgs.tl.gene_interactions(cells, model=model)
    assert np.isnan(more.varm[STATES][-1]).all()
    assert more.varm[N_CELLS][-1] == 0
    np.testing.assert_array_equal(more.varm[N_CELLS][:-1], cells.varm[N_CELLS][::-1])


def test_some_genes_have_the_same_distances(trained):
    cells, _ = trained
    pgs.tl.gene_interactions(cells, metric="mahalanobis")
    every = pgs.get.gene_interactions(cells)
    pgs.tl.gene_interactions(cells, metric="mahalanobis", genes=["gene7", "gene3"], key_added="some")
    some = pgs.get.gene_interactions(cells, key="some")
    assert list(some) == ["gene3", "gene7"]
    np.testing.assert_allclose(some, every.loc[list(some), list(some)], atol=1e-6)
    assert "polygene_some_states" in cells.varm


def test_what_is_written_survives_a_file(trained, tmp_path):
    cells, _ = trained
    cells.obs["kind"] = cells.obs["cell_type"].cat.rename_categories({"T cell": "CD4+/CD25 T"})
    keys = set(cells.varm), set(cells.uns["polygene"])
    pgs.tl.gene_interactions(cells, groupby="kind", given="sex")
    assert set(cells.varm) - keys[0] == {STATES, N_CELLS}
    assert set(cells.uns["polygene"]) - keys[1] == {"gene_interactions"}
    cells.write_h5ad(tmp_path / "cells.h5ad")
    again = ad.read_h5ad(tmp_path / "cells.h5ad")
    for metric in ("cosine", "mahalanobis"):
        found, expected = (pgs.get.gene_interactions(x, "CD4+/CD25 T", metric=metric) for x in (again, cells))
        np.testing.assert_array_equal(found, expected)
        assert list(found) == list(expected)


def test_given_phenotypes_change_states(trained):
    cells, model = trained
    pgs.tl.gene_interactions(cells, given="sex", min_cells=1)
    genes = cells.var_names.get_indexer(model.genes)
    np.testing.assert_array_equal(cells.varm[STATES][genes, 0], model.get_gene_states(given="sex").means[0])


def test_genes_of_raw_that_have_no_place_are_said(cells, small):
    cells.raw = cells
    some = cells[:, :50].copy()
    model = pgs.tl.train(some, phenotypes="sex", use_raw=True, n_genes=60, **small)
    with pytest.warns(UserWarning, match=r"10 genes of the model, e\.g\. \['gene50', .*not in adata.var_names"):
        pgs.tl.gene_interactions(some, model=model)
    assert some.varm[N_CELLS].shape == (50, 1)
    assert some.varm[N_CELLS].all()


def test_a_modality(trained):
    cells, model = trained
    mdata = MuData({"rna": cells.copy()})
    pgs.tl.gene_interactions(mdata, model=model)
    pgs.tl.gene_interactions(cells)
    np.testing.assert_array_equal(mdata.mod["rna"].varm[STATES], cells.varm[STATES])


def test_a_context_without_states_is_said(trained):
    cells, _ = trained
    cells.obs["batch"] = np.where(np.arange(cells.n_obs) < 3, "few", "many")
    with pytest.warns(UserWarning, match=r"`min_cells`: no gene is expressed in 10 cells of \['few'\]") as caught:
        pgs.tl.gene_interactions(cells, groupby="batch")
    assert len(caught) == 1
    assert np.isnan(cells.varm[STATES][:, 0]).all()
    assert not np.isnan(cells.varm[STATES][:, 1]).all()


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"metric": "pearson"}, ValueError, "`metric`: found 'pearson', but it must be one of"),
        ({"min_cells": 0}, ValueError, "`min_cells`: found 0, but it must be at least 1"),
        ({"genes": ["gene1", "gen2"]}, KeyError, r"`genes`: \['gen2'\] are not genes of the model"),
        ({"genes": []}, ValueError, "`genes`: found an empty list"),
        ({"groupby": "organ"}, KeyError, r"`groupby`: \['organ'\] are not columns"),
    ],
    ids=["metric", "cells", "gene", "no gene", "column"],
)
def test_arguments_out_of_range_are_refused(arguments, error, match, trained):
    cells, _ = trained
    with pytest.raises(error, match=match):
        pgs.tl.gene_interactions(cells, **arguments)
    assert "gene_interactions" not in cells.uns["polygene"]


def test_one_gene_may_be_named_alone(trained):
    cells, model = trained
    pgs.tl.gene_interactions(cells, genes="gene1", model=model)
    known = ~np.isnan(cells.varm[STATES][:, 0, 0])
    assert list(cells.var_names[known]) == ["gene1"]
