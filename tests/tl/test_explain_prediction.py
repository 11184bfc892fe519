import anndata as ad
import numpy as np
import pytest

import polygene_scverse as pgs


def test_cells_by_genes_come_back_and_the_data_stay(trained, tmp_path):
    cells, model = trained
    before = cells.copy()
    why = pgs.tl.explain_prediction(cells, cells.obs_names[[5, 2]], phenotype="cell_type")
    found = model.explain_prediction(cells, phenotype="cell_type", indices=[5, 2])
    assert list(why.obs_names) == list(cells.obs_names[[5, 2]])
    np.testing.assert_allclose(why[:, model.genes].X.toarray(), found.contributions.toarray())
    predicted = model.predict_phenotype(cells)["cell_type"].iloc[[5, 2]]
    for cell in why.obs_names:
        row, of_cell = why.obs.loc[cell], predicted.loc[cell]
        np.testing.assert_allclose(row["probability"], of_cell[row["category"]], atol=1e-6)
    categories = np.array(model.categories["cell_type"])
    assert why.obs["category"].tolist() == categories[found.codes].tolist()
    assert why.obs["against"].tolist() == categories[found.against].tolist()
    assert why.uns["polygene"] == {"explain_prediction": {"phenotype": "cell_type"}}
    assert list(cells.obs) == list(before.obs)
    assert set(cells.uns["polygene"]) == set(before.uns["polygene"])
    why.write_h5ad(tmp_path / "why.h5ad")
    np.testing.assert_array_equal(ad.read_h5ad(tmp_path / "why.h5ad").X.toarray(), why.X.toarray())


def test_markers_come_first(trained):
    """Genes 0 to 9, 10 to 19 and 20 to 29 are raised in the three cell types."""
    cells, _ = trained
    why = pgs.tl.explain_prediction(cells)
    for k, category in enumerate(["B cell", "NK cell", "T cell"]):
        mean = why[why.obs["category"] == category].to_df().mean().nlargest(6)
        assert sum(int(name.removeprefix("gene")) // 10 == k for name in mean.index) >= 5, mean


def test_a_category_that_is_a_number(cells, small):
    cells.obs["age"] = np.arange(cells.n_obs) % 3 + 20
    pgs.tl.train(cells, phenotypes="age", **small)
    found = pgs.tl.explain_prediction(cells, cells.obs_names[:2], category=20)
    assert found.obs["category"].tolist() == ["20", "20"]
    with pytest.raises(ValueError, match=r"`category`: found 30, but the categories of 'age' are \['20', '21', '22'\]"):
        pgs.tl.explain_prediction(cells, cells.obs_names[:2], category=30)


def test_a_category_may_be_asked_for_and_a_cell_named_alone(trained):
    cells, _ = trained
    why = pgs.tl.explain_prediction(cells, cells.obs_names[3], category="T cell")
    assert why.n_obs == 1
    assert why.obs["category"].tolist() == ["T cell"]
    assert why.obs["against"].tolist() != ["T cell"]


def test_unknown_cells_are_refused(trained):
    cells, _ = trained
    with pytest.raises(KeyError, match=r"`cells`: \['nobody'\] are not in adata.obs_names"):
        pgs.tl.explain_prediction(cells, ["nobody"])
    with pytest.raises(ValueError, match="`cells`: found none"):
        pgs.tl.explain_prediction(cells, [])
