import numpy as np
import pytest

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


def test_the_recorded_label_does_not_leak(trained):
    cells, model = trained
    other = cells.copy()
    other.obs["cell_type"] = other.obs["cell_type"].iloc[::-1].to_numpy()
    np.testing.assert_array_equal(model.get_latent_representation(cells), model.get_latent_representation(other))


def test_an_unknown_pooling(trained):
    with pytest.raises(ValueError, match=r"`pooling`: found 'max', but it must be one of"):
        pgs.tl.embed(trained[0], pooling="max")
