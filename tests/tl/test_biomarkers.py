import anndata as ad
import numpy as np
import pandas as pd
import pytest

import polygene_scverse as pgs


def test_scores_are_those_of_the_cells_of_each_context(trained, tmp_path):
    cells, model = trained
    pgs.tl.biomarkers(cells, "sex", contexts="cell_type", group_key="donor", n_cells=2, min_cells=2)
    table = pgs.get.biomarkers(cells, by_context=True)
    assert set(table["context"]) == {"B cell", "NK cell", "T cell"}
    assert len(table) == 3 * 2 * 60
    alone = cells[cells.obs["cell_type"] == "NK cell"].copy()
    pgs.tl.rank_genes(alone, "sex", n_cells=2, model=model)
    scores = pd.Series(
        alone.uns["polygene_rank_genes"]["scores"]["male"], alone.uns["polygene_rank_genes"]["names"]["male"]
    )
    part = table.query("context == 'NK cell' and category == 'male'").set_index("gene")["score"]
    np.testing.assert_allclose(part, scores[part.index], atol=1e-6)
    assert (table["n_groups"] == 6).all()
    assert table["p_value"].between(0, 1).all()
    for _, one in table.groupby(["category", "context"]):
        pd.testing.assert_series_equal(
            one["fdr"].sort_values().reset_index(drop=True),
            pd.Series(np.sort(one["fdr"]), name="fdr"),
        )
    cells.write_h5ad(tmp_path / "cells.h5ad")
    pd.testing.assert_frame_equal(
        pgs.get.biomarkers(ad.read_h5ad(tmp_path / "cells.h5ad"), "male"), pgs.get.biomarkers(cells, "male")
    )


def test_genes_of_the_phenotype_are_shared_by_all_contexts(trained):
    """gene30 to gene35 are higher in one sex, in every cell type."""
    cells, _ = trained
    pgs.tl.biomarkers(cells, "sex", contexts="cell_type", group_key="donor", n_cells=2, min_cells=2)
    top = pgs.get.biomarkers(cells, "male").head(6)
    assert set(top["gene"]) == {f"gene{i}" for i in range(30, 36)}
    assert (top["n_contexts"] == 3).sum() >= 2  # there are some eight cells of each donor, sex and cell type
    assert (top["n_contexts"] >= 1).all()
    assert top["contexts"].iloc[0] == "B cell, NK cell, T cell"


def test_without_enough_groups_no_null_is_given(trained):
    cells, model = trained
    some = cells[cells.obs["donor"].isin(["donor0", "donor1"])].copy()
    with pytest.warns(UserWarning, match="`group_key`: too few groups of 'donor' .* for a test"):
        pgs.tl.biomarkers(some, "sex", contexts="cell_type", group_key="donor", n_cells=1, model=model)
    assert pgs.get.biomarkers(some, by_context=True)[["p_value", "fdr"]].isna().all(axis=None)
    pgs.tl.biomarkers(some, "sex", contexts="cell_type", n_cells=1, model=model)
    assert pgs.get.biomarkers(some, by_context=True)["fdr"].isna().all()


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"phenotype": "age"}, ValueError, "`phenotype`: found 'age'"),
        ({"contexts": "organ"}, KeyError, r"`contexts`: \['organ'\] are not columns"),
        ({"contexts": "sex"}, ValueError, r"`contexts`: no level of adata.obs\['sex'\] has cells of two categories"),
        ({"group_key": "mouse"}, KeyError, r"`group_key`: \['mouse'\] are not columns"),
    ],
)
def test_what_cannot_be_asked_is_refused(arguments, error, match, trained):
    cells, _ = trained
    with pytest.raises(error, match=match):
        pgs.tl.biomarkers(cells, **{"phenotype": "sex", "contexts": "cell_type", **arguments})
    assert "biomarkers" not in cells.uns["polygene"]


def test_the_phenotype_besides_the_contexts_is_the_default(trained):
    cells, _ = trained
    pgs.tl.biomarkers(cells, contexts="cell_type", n_cells=1)
    assert cells.uns["polygene"]["biomarkers"]["phenotype"] == "sex"
    found = pgs.get.biomarkers(cells)
    pgs.tl.biomarkers(cells, "sex", contexts="cell_type", n_cells=1)
    pd.testing.assert_frame_equal(found, pgs.get.biomarkers(cells))
    with pytest.raises(
        ValueError, match=r"`phenotype`: the model has 2 besides 'donor', .*cell_type.*Pass one of them"
    ):
        pgs.tl.biomarkers(cells, contexts="donor")


def test_the_phenotype_must_be_recorded(trained):
    cells, model = trained
    del cells.obs["sex"]
    with pytest.raises(KeyError, match=r"`phenotype`: 'sex' is not a column of adata\.obs"):
        pgs.tl.biomarkers(cells, "sex", contexts="cell_type", model=model)


@pytest.mark.filterwarnings("ignore:`group_key`")
def test_the_model_takes_rows(trained):
    cells, model = trained
    rows = np.arange(0, cells.n_obs, 2)
    arguments = {"phenotype": "sex", "contexts": "cell_type", "groupby": "sex", "group_key": "donor", "n_cells": 1}
    found = model.biomarkers(cells, indices=rows, **arguments)
    expected = model.biomarkers(cells[rows].copy(), **arguments)
    assert list(found) == list(expected)
    for level, part in found.items():
        np.testing.assert_allclose(part.contributions.scores, expected[level].contributions.scores, atol=1e-5)
        np.testing.assert_array_equal(part.n_groups, expected[level].n_groups)
