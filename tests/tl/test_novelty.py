import warnings

import anndata as ad
import numpy as np
import pytest
from mudata import MuData

import polygene_scverse as pgs


def test_is_that_of_the_model(trained, tmp_path):
    cells, model = trained
    pgs.tl.novelty(cells)
    np.testing.assert_array_equal(cells.obs["polygene_novelty"], model.novelty()["novelty"])
    assert cells.uns["polygene"]["novelty"] == {"phenotype": "cell_type"}
    cells.write_h5ad(tmp_path / "cells.h5ad")
    read = ad.read_h5ad(tmp_path / "cells.h5ad")
    np.testing.assert_array_equal(read.obs["polygene_novelty"], cells.obs["polygene_novelty"])


def test_of_another_phenotype(trained):
    cells, model = trained
    pgs.tl.novelty(cells, phenotype="sex")
    np.testing.assert_array_equal(cells.obs["polygene_novelty"], model.novelty(phenotype="sex")["novelty"])
    assert cells.uns["polygene"]["novelty"] == {"phenotype": "sex"}


def test_other_notes_stay(trained):
    cells, _ = trained
    pgs.tl.predict_phenotype(cells)
    pgs.tl.novelty(cells)
    assert {"predict", "train", "novelty"} <= set(cells.uns["polygene"])


def test_a_modality(trained):
    cells, model = trained
    expected = model.novelty()["novelty"]
    data = MuData({"rna": cells.copy()})
    pgs.tl.novelty(data, model=model)
    np.testing.assert_array_equal(data.mod["rna"].obs["polygene_novelty"], expected)


def test_unknown_phenotype(trained):
    with pytest.raises(ValueError, match="`phenotype`: found 'age', but it must be one of"):
        pgs.tl.novelty(trained[0], phenotype="age")


def test_cells_that_are_all_far_are_reported(trained):
    cells, model = trained
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pgs.tl.novelty(cells)
    foreign = cells.copy()
    foreign.X = foreign.X[:, np.random.default_rng(0).permutation(foreign.n_vars)]
    found = model.novelty(foreign)["novelty"]
    n = int((found > 0.95).sum())
    assert n > foreign.n_obs / 3
    counted = f"{n} of {foreign.n_obs} cells have a novelty above 0.95; about 5% are expected"
    with pytest.warns(UserWarning, match=f"{counted}.*training cells of the model also score higher"):
        pgs.tl.novelty(foreign, model=model)
