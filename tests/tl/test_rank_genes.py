import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy as sc

import polygene_scverse as pgs
from polygene_scverse.tl._models import genes_in_var

KEY = "polygene_rank_genes"


@pytest.fixture
def ranked(trained):
    cells, model = trained
    pgs.tl.rank_genes(cells, n_cells=3)
    return cells, model


def test_scanpy_reads_the_scores_of_the_model(ranked):
    cells, model = ranked
    found = model.gene_contributions(cells, phenotype="cell_type", groupby="cell_type", n_cells=3)
    table = sc.get.rank_genes_groups_df(cells, None, key=KEY)
    assert list(table["group"].cat.categories) == found.categories == ["B cell", "NK cell", "T cell"]
    for category, scores, changes in zip(found.categories, found.scores, found.log_fold_changes, strict=True):
        part = table[table["group"] == category].set_index("names")
        assert part["scores"].is_monotonic_decreasing
        np.testing.assert_allclose(part.loc[found.genes, "scores"], scores)
        np.testing.assert_allclose(part.loc[found.genes, "logfoldchanges"], changes)
    assert table["pvals"].isna().all()
    assert table["pvals_adj"].isna().all()


def test_markers_come_first(ranked):
    """Genes 0 to 9, 10 to 19 and 20 to 29 are raised in the three cell types."""
    cells, _ = ranked
    for k, category in enumerate(["B cell", "NK cell", "T cell"]):
        top = sc.get.rank_genes_groups_df(cells, category, key=KEY)["names"][:6]
        assert sum(int(name.removeprefix("gene")) // 10 == k for name in top) >= 5, list(top)


@pytest.mark.parametrize(
    "plot",
    [
        sc.pl.rank_genes_groups,
        sc.pl.rank_genes_groups_dotplot,
        sc.pl.rank_genes_groups_matrixplot,
        sc.pl.rank_genes_groups_heatmap,
        sc.pl.rank_genes_groups_stacked_violin,
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_scanpy_draws_it(plot, ranked):
    cells, _ = ranked
    kwargs = {} if plot is sc.pl.rank_genes_groups else {"dendrogram": False}
    plot(cells[cells.obs["cell_type"].notna()].copy(), key=KEY, n_genes=3, show=False, **kwargs)


def test_it_survives_a_file(ranked, tmp_path):
    cells, _ = ranked
    cells.write_h5ad(tmp_path / "cells.h5ad")
    read = ad.read_h5ad(tmp_path / "cells.h5ad")
    before, after = (sc.get.rank_genes_groups_df(x, "T cell", key=KEY) for x in (cells, read))
    assert before["names"].tolist() == after["names"].tolist()
    np.testing.assert_array_equal(before["scores"], after["scores"])
    pgs.tl.rank_genes(read, "sex", n_cells=1, model=ranked[1])  # written over: it is the verb's own


def test_predicted_categories_stand_in_for_recorded_ones(trained):
    cells, model = trained
    del cells.obs["sex"]
    with pytest.raises(ValueError, match=r"`groupby`: none of \['sex', 'polygene_sex'\] is a column"):
        pgs.tl.rank_genes(cells, "sex")
    pgs.tl.predict_phenotype(cells, phenotypes="sex", model=model)
    if cells.obs["polygene_sex"].nunique() == 1:
        cells.obs["polygene_sex"] = np.where(np.arange(cells.n_obs) % 2, "male", "female")
    pgs.tl.rank_genes(cells, "sex", n_cells=1, n_genes=4)
    assert cells.uns[KEY]["params"]["groupby"] == "polygene_sex"
    assert cells.uns[KEY]["params"]["phenotype"] == "sex"
    assert cells.uns[KEY]["names"].shape == (4,)


def test_other_results_are_not_written_over(trained):
    cells, _ = trained
    cells.uns["rank_genes_groups"] = before = {"params": {"method": "wilcoxon"}}
    with pytest.raises(ValueError, match=r"`key_added`: adata.uns\['rank_genes_groups'\] was not written by pgs"):
        pgs.tl.rank_genes(cells, key_added="rank_genes_groups")
    assert cells.uns["rank_genes_groups"] is before


def test_names_that_files_cannot_hold_and_numbers_below_one_are_refused(trained):
    cells, _ = trained
    with pytest.raises(ValueError, match="`key_added`"):
        pgs.tl.rank_genes(cells, key_added="a/b")
    with pytest.raises(ValueError, match="`n_genes`: found 0"):
        pgs.tl.rank_genes(cells, n_genes=0)
    with pytest.raises(ValueError, match=r"`phenotype`: found 'age', but it must be one of \['cell_type', 'sex'\]"):
        pgs.tl.rank_genes(cells, "age")
    assert KEY not in cells.uns


def test_genes_have_the_names_of_the_data(trained):
    """Columns in another order, one that the model does not have, and names of which the model knows another form."""
    cells, model = trained
    pgs.tl.rank_genes(cells, n_cells=2)
    other = cells[:, ::-1].copy()
    pgs.tl.rank_genes(other, n_cells=2, model=model)
    before, after = (sc.get.rank_genes_groups_df(x, "B cell", key=KEY).set_index("names") for x in (cells, other))
    np.testing.assert_allclose(after.loc[before.index, "scores"], before["scores"], atol=1e-5)
    there, names = genes_in_var(other[:, ["gene9", "gene2", "gene5"]].copy(), model, ["gene5", "gene0", "gene9"])
    assert there.tolist() == [0, 2]
    assert list(names) == ["gene5", "gene9"]


@pytest.mark.parametrize("kind", [int, "category"], ids=str)
def test_numbers_are_reported_because_scanpy_does_not_draw_them(kind, cells, small):
    numbers = pd.Series(np.arange(cells.n_obs) % 2 + 1, index=cells.obs_names)
    cells.obs["batch"] = numbers.astype(kind)
    pgs.tl.train(cells, phenotypes="batch", **small)
    with pytest.warns(UserWarning, match=r"`groupby`: adata.obs\['batch'\] does not hold text, so scanpy's plots"):
        pgs.tl.rank_genes(cells, n_cells=1)
    cells.obs["batch"] = cells.obs["batch"].map(str)  # as the warning says
    pgs.tl.rank_genes(cells, n_cells=1)
    sc.pl.rank_genes_groups_dotplot(cells, key=KEY, n_genes=2, dendrogram=False, show=False)
