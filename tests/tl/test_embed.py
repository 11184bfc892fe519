import numpy as np
import pytest
import torch

import polygene_scverse as pgs


def test_the_embedding_is_the_models_and_scanpy_draws_its_umap(trained):
    cells, model = trained
    pgs.tl.embed(cells)
    np.testing.assert_array_equal(cells.obsm["X_polygene"], model.get_latent_representation())
    assert cells.obsm["X_polygene_umap"].shape == (cells.n_obs, 2)
    neighbors = cells.uns["polygene_neighbors"]
    assert neighbors["distances_key"] in cells.obsp
    assert neighbors["connectivities_key"] in cells.obsp
    assert "X_umap" not in cells.obsm
    assert "neighbors" not in cells.uns


def test_without_umap_only_the_embedding_is_written(trained):
    cells, model = trained
    keys = set(cells.obsm), set(cells.obsp), set(cells.uns)
    pgs.tl.embed(cells, umap=False, key_added="Z", pooling="genes")
    assert (set(cells.obsm) - {"Z"}, set(cells.obsp), set(cells.uns)) == keys
    np.testing.assert_array_equal(cells.obsm["Z"], model.get_latent_representation(pooling="genes"))


def test_no_umap_of_an_earlier_embedding_stays(trained):
    cells, _ = trained
    drawn = {"polygene_neighbors", "polygene_distances", "polygene_connectivities", "X_polygene_umap"}

    def found():
        return drawn & {*cells.obsm, *cells.obsp, *cells.uns}

    pgs.tl.embed(cells)
    pgs.tl.embed(cells, umap=False)  # the same embedding
    assert found() == drawn
    pgs.tl.embed(cells, umap=False, pooling="genes", key_added="Z")  # another key
    assert found() == drawn
    pgs.tl.embed(cells, umap=False, pooling="genes")
    assert found() == set()


@pytest.mark.parametrize("pooling", ["cls", "sex", "genes"])
def test_embeddings_of_the_original_s_analyses(pooling, trained):
    """States of the first slot, of a phenotype's slot, and the mean of the expressed genes', from the dense sentence."""
    cells, model = trained
    some = cells[:40].copy()
    layout, table = model.layout, model._cells(some, np.arange(40)).read_all()
    ids = np.full((40, layout.length), layout.first_bin_id)
    ids[:, layout.special_positions] = layout.special_tokens
    ids[np.repeat(np.arange(40), table.cells.lengths), layout.first_gene_position + table.cells.genes] += (
        table.cells.bins
    )
    ids = torch.from_numpy(ids)
    seen = ids != layout.first_bin_id
    with torch.no_grad():
        states = model.module.states(ids, torch.arange(layout.length).expand_as(ids), seen).numpy()
    genes = seen.numpy()[:, layout.first_gene_position : -1, None]
    expected = {
        "cls": states[:, 0],
        "sex": states[:, 1 + layout.phenotype_names.index("sex")],
        "genes": (states[:, layout.first_gene_position : -1] * genes).sum(1) / genes.sum(1),
    }
    pgs.tl.embed(some, pooling=pooling, key_added="Z", model=model)
    np.testing.assert_allclose(some.obsm["Z"], expected[pooling], atol=1e-5)
    assert some.obsm["Z_umap"].shape == (40, 2)
    assert np.isfinite(some.obsm["Z_umap"]).all()


def test_the_recorded_label_does_not_leak(trained):
    cells, model = trained
    other = cells.copy()
    other.obs["cell_type"] = other.obs["cell_type"].iloc[::-1].to_numpy()
    np.testing.assert_array_equal(model.get_latent_representation(cells), model.get_latent_representation(other))


def test_an_unknown_pooling(trained):
    with pytest.raises(ValueError, match=r"`pooling`: found 'max', but it must be one of"):
        pgs.tl.embed(trained[0], pooling="max")


def test_given_phenotypes_are_shown(trained):
    cells, model = trained
    pgs.tl.embed(cells, umap=False, given="sex")
    np.testing.assert_array_equal(cells.obsm["X_polygene"], model.get_latent_representation(given="sex"))
    assert np.abs(cells.obsm["X_polygene"] - model.get_latent_representation()).max() > 1e-3
    with pytest.raises(ValueError, match="`given`: found 'age'"):
        pgs.tl.embed(cells, given="age")
