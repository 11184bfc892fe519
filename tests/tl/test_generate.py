import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import polygene_scverse as pgs


def test_cells_of_given_phenotypes(trained, tmp_path):
    _, model = trained
    found = pgs.tl.generate({"cell_type": "B cell"}, n_obs=60, model=model)
    assert found.shape == (60, 60)
    assert list(found.var_names) == model.genes
    assert (found.obs["cell_type"] == "B cell").all()
    assert set(found.obs["sex"]) == {"female", "male"}
    assert list(found.obs["sex"].cat.categories) == model.categories["sex"]
    assert not found.obs["unseen"].any()
    assert sp.issparse(found.X)
    assert found.layers["counts"].dtype == np.int32
    expected = np.log1p(1e4 * found.layers["counts"].toarray() / found.obs["total_counts"].to_numpy()[:, None])
    np.testing.assert_allclose(found.X.toarray(), expected, rtol=1e-5)
    assert found.obs_names.is_unique
    found.write_h5ad(tmp_path / "cells.h5ad")
    assert found.uns["polygene"]["generate"] == {
        "seed": 0, "n_rounds": 0, "temperature": 1.0, "given": ["cell_type"],
    }  # fmt: skip


def test_phenotypes_do_what_they_do(trained):
    _, model = trained
    means = {sex: pgs.tl.generate({"sex": sex}, n_obs=150, model=model).to_df().mean() for sex in ("female", "male")}
    shift = (means["male"] - means["female"]).abs()
    assert len(set(shift.nlargest(6).index) & {f"gene{i}" for i in range(30, 36)}) >= 5


def test_the_model_reads_them(trained):
    """Their own model predicts them, from X or from counts."""
    _, model = trained
    found = pgs.tl.generate({}, n_obs=80, model=model)
    table = model.predict_phenotype(found)["cell_type"]
    assert (table.idxmax(1).to_numpy() == found.obs["cell_type"].astype(str)).mean() > 0.5


def test_a_row_for_each_cell_and_seeds(trained, tmp_path):
    _, model = trained
    table = pd.DataFrame({"sex": ["male", None, "female"]}, index=["a", "b", "c"])
    found = pgs.tl.generate(table, model=model, seed=5, depth=3000)
    assert list(found.obs_names) == ["a", "b", "c"]
    assert found.obs["sex"].astype(str).to_numpy()[[0, 2]].tolist() == ["male", "female"]
    assert (found.obs["total_counts"] >= 3000).all()
    model.save(tmp_path / "model")
    again = pgs.tl.generate(table, model=tmp_path / "model", seed=5, depth=3000)
    np.testing.assert_array_equal(again.X.toarray(), found.X.toarray())
    assert again.obs.equals(found.obs)


def test_what_no_training_cell_had_is_refused_or_marked(cells, small):
    cells.obs["sex"] = cells.obs["sex"].cat.remove_categories("unknown")
    cells.obs.loc[cells.obs["cell_type"] == "B cell", "sex"] = "female"
    cells.obs["cell_type"] = cells.obs["cell_type"].cat.add_categories("x").fillna("x").cat.remove_categories("x")
    model = pgs.tl.train(cells, phenotypes=["cell_type", "sex"], **small)
    given = {"cell_type": "B cell", "sex": "male"}
    with pytest.raises(ValueError, match=r"no training cell had the phenotypes {'cell_type': 'B cell', 'sex': 'male'}"):
        pgs.tl.generate(given, n_obs=5, model=model)
    assert pgs.tl.generate(given, n_obs=5, model=model, allow_unseen=True).obs["unseen"].all()
    assert (pgs.tl.generate({"cell_type": "B cell"}, n_obs=20, model=model).obs["sex"] == "female").all()


def test_words_for_missing_are_sampled(trained):
    model = trained[1]
    tables = [pd.DataFrame({"cell_type": ["B cell", word] * 20, "sex": ["male"] * 40}) for word in (None, "unknown")]
    found = [pgs.tl.generate(table, model=model).obs for table in tables]
    pd.testing.assert_frame_equal(*found)
    assert found[0]["cell_type"].nunique() == 3


@pytest.mark.parametrize(
    ("given", "kwargs", "words"),
    [
        ({"age": "old"}, {}, "`given`: found 'age', but it must be one of"),
        ({"sex": "other"}, {}, r"`given`: found 'other', but the categories of 'sex' are"),
        ({}, {"n_obs": 0}, "`n_obs`: found 0"),
        ({}, {"n_obs": None}, "`n_obs`: found None"),
        ({}, {"n_obs": 10**7}, r"`n_obs`: 10,000,000 cells with some \d+ expressed genes each would take [\d.]+ GB"),
        ({}, {"n_obs": 10**10}, r"GB. Generate at most"),
        (pd.DataFrame({"sex": ["male"]}), {"n_obs": 2}, "`given` has 1 rows"),
        (pd.DataFrame({"sex": []}), {"n_obs": None}, "`n_obs`: found 0"),
        ({}, {"n_rounds": 0}, "at least one round"),
        ({}, {"temperature": 0.0}, "a temperature above 0"),
        ({}, {"depth": 0}, "a depth of at least 1"),
    ],
)
def test_bad_input(trained, given, kwargs, words):
    with pytest.raises(ValueError, match=words):
        pgs.tl.generate(given, model=trained[1], **{"n_obs": 3, **kwargs})


def test_other_things_than_phenotypes_and_models(trained):
    with pytest.raises(TypeError, match="`given`: found str"):
        pgs.tl.generate("B cell", n_obs=3, model=trained[1])
    with pytest.raises(TypeError, match="`model`: found None"):
        pgs.tl.generate({}, n_obs=3, model=None)
