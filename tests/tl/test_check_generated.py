import anndata as ad
import numpy as np
import pandas as pd
import pytest

import polygene_scverse as pgs


@pytest.fixture
def parts(trained):
    """Generated cells, the cells that the model was trained on, and others like them."""
    cells, model = trained
    return pgs.tl.generate(cells.obs[["cell_type"]].iloc[:150], model=model), cells[150:].copy(), cells[:150].copy()


def test_what_is_written_and_comes_back(parts, tmp_path):
    generated, reference, training = parts
    before = reference.copy()
    table = pgs.tl.check_generated(generated, reference, training=training, groupby="cell_type", n_genes=40)
    assert list(table.columns) == [
        "level", "metric", "best", "n_cells", "generated", "real cells", "Gaussian copula", "independent genes",
        "reference",
    ]  # fmt: skip
    assert list(table["level"].unique()) == ["all", "B cell", "NK cell", "T cell"]
    together = table[table["level"] == "all"].set_index("metric")
    assert together.loc["as_requested", "generated"] > 0.6
    assert together.loc["slope_cell_type", "generated"] == pytest.approx(1, abs=0.3)
    note = generated.uns["polygene"]["check_generated"]
    assert (note["groupby"], note["n_genes"], note["training"], note["seed"]) == (["cell_type"], 40, True, 0)
    assert set(generated.uns["polygene"]) == {"generate", "check_generated"}
    pd.testing.assert_frame_equal(pgs.get.check_generated(generated), table)
    generated.write_h5ad(tmp_path / "cells.h5ad")
    again = ad.read_h5ad(tmp_path / "cells.h5ad")
    pd.testing.assert_frame_equal(pgs.get.check_generated(again), table, check_dtype=False)
    assert reference.obs.equals(before.obs)
    assert set(reference.uns["polygene"]) == {"train"}
    assert (reference.X != before.X).nnz == 0


def test_seeds_and_kinds_of_matrices(parts):
    generated, reference, training = parts
    arguments = {"training": training, "groupby": "cell_type", "n_genes": 30}
    table = pgs.tl.check_generated(generated, reference, **arguments)
    dense = reference.copy()
    dense.X = dense.X.toarray()
    generated.X = generated.X.tocsc()
    pd.testing.assert_frame_equal(pgs.tl.check_generated(generated, dense, **arguments), table)
    other = pgs.tl.check_generated(generated, reference, **arguments, seed=1)
    assert (other["generated"] != table["generated"]).any()


def test_backed_reference(parts, tmp_path):
    generated, reference, training = parts
    arguments = {"training": training, "groupby": "cell_type", "n_genes": 30}
    table = pgs.tl.check_generated(generated, reference, **arguments)
    reference.write_h5ad(tmp_path / "cells.h5ad")
    backed = ad.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    pd.testing.assert_frame_equal(pgs.tl.check_generated(generated, backed, **arguments), table)


def test_without_training_cells_nothing_is_said_of_memorisation(parts):
    table = pgs.tl.check_generated(parts[0], parts[1], groupby="cell_type").set_index(["level", "metric"])
    assert np.isnan(table.loc[("all", "attack_auroc"), "generated"])
    assert table.loc[("all", "rf_auc")].drop(["best", "reference"]).notna().all()


def test_classes_with_few_cells_are_named(parts):
    generated, reference, training = parts
    reference = reference[(reference.obs["cell_type"] != "B cell") | (np.arange(reference.n_obs) < 20)].copy()
    with pytest.warns(UserWarning, match=r"`groupby`: \['B cell'\] are left out, because they have fewer than 10"):
        table = pgs.tl.check_generated(generated, reference, training=training, groupby="cell_type")
    assert "B cell" not in set(table["level"])


def test_nothing_is_written_where_it_fails(parts):
    generated, reference, _ = parts
    with pytest.raises(KeyError, match="`groupby`: \\['age'\\]"):
        pgs.tl.check_generated(generated, reference, groupby="age")
    with pytest.raises(ValueError, match="At least half are needed"):
        pgs.tl.check_generated(generated, reference[:, :10].copy(), groupby="cell_type")
    assert set(generated.uns["polygene"]) == {"generate"}
    generated.uns["polygene"]["check_generated"] = "mine"
    with pytest.raises(ValueError, match="was not written by the function"):
        pgs.tl.check_generated(generated, reference, groupby="cell_type")


def test_raw_of_the_real_cells(parts):
    generated, reference, training = parts
    arguments = {"groupby": "cell_type", "n_genes": 30, "max_cells": 200}
    table = pgs.tl.check_generated(generated, reference, training=training, **arguments)
    for part in (reference, training):
        part.raw = part.copy()
        part.X = part.X * 0
    found = pgs.tl.check_generated(generated, reference, training=training, use_raw=True, **arguments)
    pd.testing.assert_frame_equal(found, table)
