import gc
import weakref

import anndata as ad
import numpy as np
import pytest

import polygene_scverse as pgs
from polygene_scverse.tl import _models


def test_the_model_trained_on_this_object_is_found(trained):
    cells, model = trained
    found = _models.find(cells, None)
    assert found.module is model.module
    assert found.adata is None


def test_a_copy_is_another_object(trained):
    cells, _ = trained
    with pytest.raises(ValueError, match=r"`model`: none was passed.*pgs\.tl\.train\(adata\) first, or pass model="):
        pgs.tl.predict_phenotype(cells.copy())


def test_a_model_or_its_folder_can_be_passed(trained, tmp_path):
    cells, model = trained
    model.save(tmp_path / "model")
    other = cells[:20].copy()
    for given in (model, tmp_path / "model", str(tmp_path / "model")):
        pgs.tl.predict_phenotype(other, model=given)
        np.testing.assert_allclose(
            other.obsm["polygene_sex_proba"], model.predict_phenotype(other)["sex"], rtol=1e-5, atol=1e-6
        )


def test_the_noted_folder_is_found_after_reading_a_file(cells, small, tmp_path):
    pgs.tl.train(cells, phenotypes="sex", save_to=tmp_path / "model", **small)
    cells.write_h5ad(tmp_path / "cells.h5ad")
    read = ad.read_h5ad(tmp_path / "cells.h5ad")
    pgs.tl.predict_phenotype(read)
    assert "polygene_sex" in read.obs


def test_something_else_is_no_model(cells):
    with pytest.raises(TypeError, match=r"`model`: found int\. Pass a Polygene model or the folder"):
        pgs.tl.predict_phenotype(cells, model=3)


def test_something_else_is_no_data():
    with pytest.raises(TypeError, match=r"`adata`: found list, but AnnData or MuData is needed"):
        pgs.tl.predict_phenotype([1, 2])


def test_nothing_is_kept_of_data_that_are_gone(simulated):
    class Stub:
        def without_data(self):
            return self

    data = simulated.copy()
    key, gone = id(data), weakref.ref(data)
    _models.remember(data, Stub())
    assert key in _models._TRAINED
    del data
    gc.collect()
    assert gone() is None
    assert key not in _models._TRAINED
