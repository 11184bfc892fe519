import warnings

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import polygene_scverse as pgs


@pytest.fixture
def confounded(cells):
    """A disease of each donor, and a cell type of one."""
    donor = cells.obs["donor"].cat.codes.to_numpy()
    cells.obs["disease"] = np.array(["flu", "healthy"])[donor % 2]
    label = cells.obs["cell_type"].astype(object)
    label.iloc[np.flatnonzero(donor == 4)[:5]] = "mast cell"
    cells.obs["cell_type"] = label
    return cells


def test_one_warning_that_is_noted_and_saved(confounded, small, tmp_path):
    with pytest.warns(
        UserWarning, match="`group_key`: phenotypes that depend on 'donor' cannot be separated"
    ) as caught:
        model = pgs.tl.train(
            confounded,
            phenotypes=["cell_type", "sex", "disease"],
            group_key="donor",
            save_to=tmp_path / "model",
            **small,
        )
    (text,) = [str(w.message) for w in caught if "`group_key`" in str(w.message)]
    assert "cell_type: ['mast cell'] occur in a single donor only." in text
    assert "disease: constant within each donor, so there are 6 independent observations, not 300." in text
    assert "sex" not in text
    report = pgs.pp.confounding(confounded, group_key="donor", phenotypes=["cell_type", "sex", "disease"])
    pd.testing.assert_frame_equal(confounded.uns["polygene"]["train"]["confounding"], report)
    for other in (model, model.without_data(), pgs.model.Polygene.load(tmp_path / "model", adata=False)):
        assert other.fitted_.confounding["group_key"] == "donor"
        assert other.fitted_.confounding["phenotypes"] == report.to_dict(orient="index")
    confounded.write_h5ad(tmp_path / "cells.h5ad")
    read = ad.read_h5ad(tmp_path / "cells.h5ad").uns["polygene"]["train"]["confounding"]
    pd.testing.assert_frame_equal(read, report, check_index_type=False)


def test_no_warning_where_there_is_no_reason(cells, small):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = pgs.tl.train(cells, phenotypes=["cell_type", "sex"], group_key="donor", **small)
    assert set(model.fitted_.confounding["phenotypes"]) == {"cell_type", "sex"}


def test_labels_that_the_model_keeps_are_counted(cells, small):
    """And those that it reads as missing are not."""
    cells.obs["sex"] = cells.obs["sex"].astype(object).fillna("unknown")
    columns = {"phenotypes": ["cell_type", "sex"], "group_key": "donor", **small}
    kept = pgs.tl.train(cells, missing=[], **columns).fitted_.confounding["phenotypes"]["sex"]
    assert (kept["n_categories"], kept["n_cells"]) == (3, 300)
    named = pgs.tl.train(cells, missing=["NA"], **columns).fitted_.confounding["phenotypes"]["sex"]
    assert (named["n_categories"], named["n_cells"]) == (2, 291)


def test_without_groups_nothing_is_said(confounded, small):
    model = pgs.tl.train(confounded, phenotypes=["cell_type", "disease"], **small)
    assert model.fitted_.confounding is None
    assert "confounding" not in confounded.uns["polygene"]["train"]
