import anndata as ad
import numpy as np
import pytest
import scanpy as sc

import polygene_scverse as pgs


def test_rows_are_the_states_of_the_model(trained):
    cells, model = trained
    before = (list(cells.uns), list(cells.obs), list(cells.varm))
    table = pgs.tl.gene_embeddings(cells, groupby="cell_type", min_cells=7)
    assert (list(cells.uns), list(cells.obs), list(cells.varm)) == before
    found = model.get_gene_states(cells, groupby="cell_type")
    assert table.n_obs == (found.n_cells >= 7).sum() < found.n_cells.size
    assert table.n_vars == 16
    for context, means, n_cells in zip(found.contexts, found.means, found.n_cells, strict=True):
        part = table[table.obs["context"] == context]
        at = [found.genes.index(gene) for gene in part.obs["gene"]]
        np.testing.assert_array_equal(part.X, means[at])
        np.testing.assert_array_equal(part.obs["n_cells"], n_cells[at])
        assert set(at) == set(np.flatnonzero(n_cells >= 7))
    assert table.obs_names.is_unique
    assert table.obs_names[0] == f"{table.obs['gene'].iloc[0]} | {table.obs['context'].iloc[0]}"


def test_rows_of_a_group_are_those_of_its_cells_alone(trained):
    cells, model = trained
    table = pgs.tl.gene_embeddings(cells, groupby="cell_type", group_key="donor", min_cells=2)
    assert list(table.obs) == ["gene", "context", "group", "n_cells"]
    alone = cells[cells.obs["donor"] == "donor3"].copy()
    expected = pgs.tl.gene_embeddings(alone, groupby="cell_type", min_cells=2, model=model)
    part = table[table.obs["group"] == "donor3"]
    assert part.obs[["gene", "context", "n_cells"]].to_numpy().tolist() == expected.obs.to_numpy().tolist()
    np.testing.assert_allclose(part.X, expected.X, atol=1e-5)
    total = pgs.tl.gene_embeddings(cells, groupby="cell_type", min_cells=1).obs["n_cells"].sum()
    assert (
        pgs.tl.gene_embeddings(cells, groupby="cell_type", group_key="donor", min_cells=1).obs["n_cells"].sum() == total
    )


def test_some_genes(trained):
    cells, _ = trained
    table = pgs.tl.gene_embeddings(cells, genes=["gene7", "gene3"], min_cells=1)
    assert sorted(table.obs["gene"]) == ["gene3", "gene7"]
    assert table.obs["context"].unique().tolist() == ["all"]


@pytest.mark.filterwarnings("ignore")
def test_scanpy_and_files_take_it(trained, tmp_path):
    table = pgs.tl.gene_embeddings(trained[0], groupby="cell_type", min_cells=5)
    sc.pp.pca(table, n_comps=5)
    sc.pp.neighbors(table, n_neighbors=5)
    assert table.obsm["X_pca"].shape == (table.n_obs, 5)
    table.write_h5ad(tmp_path / "genes.h5ad")
    read = ad.read_h5ad(tmp_path / "genes.h5ad")
    np.testing.assert_array_equal(read.X, table.X)
    assert read.uns["polygene"]["gene_embeddings"]["groupby"] == "cell_type"


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"min_cells": 0}, ValueError, "`min_cells`: found 0"),
        ({"min_cells": 10**6}, ValueError, "`min_cells`: no gene is expressed in 1000000 cells"),
        ({"genes": ["XIST"]}, KeyError, r"`genes`: \['XIST'\] are not genes"),
        ({"genes": []}, ValueError, "`genes`: found an empty list"),
        ({"groupby": "organ"}, KeyError, r"`groupby`: \['organ'\] are not columns"),
        ({"group_key": "mouse"}, KeyError, r"`group_key`: \['mouse'\] are not columns"),
    ],
)
def test_what_cannot_be_asked_is_refused(arguments, error, match, trained):
    with pytest.raises(error, match=match):
        pgs.tl.gene_embeddings(trained[0], **arguments)


def test_one_gene_may_be_named_alone(trained):
    table = pgs.tl.gene_embeddings(trained[0], genes="gene1", model=trained[1])
    assert table.obs["gene"].tolist() == ["gene1"]
