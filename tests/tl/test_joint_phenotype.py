import anndata as ad
import mudata as md
import numpy as np
import pytest

import polygene_scverse as pgs
from polygene_scverse.tl import _joint_phenotype

BOTH = ["cell_type", "sex"]


def test_the_best_combination_is_written(trained):
    cells, model = trained
    before = cells.obs.copy()
    pgs.tl.joint_phenotype(cells, phenotypes=BOTH)
    joint = model.joint_phenotype(phenotypes=BOTH)
    for cell, row in zip(cells.obs["polygene_joint"], joint, strict=True):
        at = tuple(model.categories[name].index(part) for name, part in zip(BOTH, cell.split(" | "), strict=True))
        assert row[at] == row.max()
    np.testing.assert_allclose(cells.obs["polygene_joint_probability"], joint.max((1, 2)), rtol=1e-6)
    new = ["polygene_joint" + end for end in ("", "_probability", "_impossible", "_flagged")]
    assert set(cells.obs) - set(before) == set(new)
    assert cells.obs[before.columns].equals(before)
    assert cells.uns["polygene"]["joint"] == {"polygene_joint": BOTH}


def test_combinations_that_no_training_cell_had_are_flagged(cells, small):
    cells.obs["sex"] = cells.obs["sex"].cat.remove_categories("unknown")
    cells.obs.loc[cells.obs["cell_type"] == "B cell", "sex"] = "female"
    model = pgs.tl.train(cells, phenotypes=BOTH, **small)
    pgs.tl.joint_phenotype(cells, phenotypes=BOTH)
    joint = model.joint_phenotype(phenotypes=BOTH)
    b, male = model.categories["cell_type"].index("B cell"), model.categories["sex"].index("male")
    np.testing.assert_allclose(cells.obs["polygene_joint_impossible"], joint[:, b, male], rtol=1e-5)
    flagged = cells.obs["polygene_joint"] == "B cell | male"
    np.testing.assert_array_equal(cells.obs["polygene_joint_flagged"], flagged)


def test_nothing_is_impossible_where_all_occurred(trained):
    cells, _ = trained
    pgs.tl.joint_phenotype(cells, phenotypes=BOTH)
    assert (cells.obs["polygene_joint_impossible"] == 0).all()
    assert not cells.obs["polygene_joint_flagged"].any()


def test_blocks_of_cells(trained, monkeypatch):
    cells, _ = trained
    pgs.tl.joint_phenotype(cells, phenotypes=BOTH)
    monkeypatch.setattr(_joint_phenotype, "MOST_VALUES", 600)  # a hundred cells of six combinations
    pgs.tl.joint_phenotype(cells, phenotypes=BOTH, key_added="again")
    np.testing.assert_array_equal(cells.obs["again"].astype(str), cells.obs["polygene_joint"].astype(str))
    np.testing.assert_allclose(cells.obs["again_probability"], cells.obs["polygene_joint_probability"], rtol=1e-5)
    assert set(cells.uns["polygene"]["joint"]) == {"polygene_joint", "again"}


def test_it_survives_a_file(trained, tmp_path):
    cells, _ = trained
    pgs.tl.joint_phenotype(cells, phenotypes=BOTH)
    cells.write_h5ad(tmp_path / "cells.h5ad")
    read = ad.read_h5ad(tmp_path / "cells.h5ad")
    assert read.obs["polygene_joint"].tolist() == cells.obs["polygene_joint"].tolist()
    assert read.obs["polygene_joint_flagged"].dtype == bool
    assert list(read.uns["polygene"]["joint"]["polygene_joint"]) == BOTH


def test_one_phenotype_is_no_combination(trained):
    with pytest.raises(ValueError, match=r"`phenotypes`: found \['sex'\], but a joint prediction needs at least two"):
        pgs.tl.joint_phenotype(trained[0], phenotypes="sex")


def test_other_phenotypes_as_evidence(cells, small):
    cells.obs["disease"] = np.resize(["flu", "healthy"], cells.n_obs)
    model = pgs.tl.train(cells, phenotypes=[*BOTH, "disease"], **small)
    pgs.tl.joint_phenotype(cells, phenotypes=BOTH, given="disease")
    joint = model.joint_phenotype(phenotypes=BOTH, given="disease")
    np.testing.assert_allclose(cells.obs["polygene_joint_probability"], joint.max((1, 2)), rtol=1e-5)
    with pytest.raises(ValueError, match=r"with given=\['sex'\]"):
        pgs.tl.joint_phenotype(cells, phenotypes=BOTH, given="sex")


def test_one_modality_of_mudata(trained):
    cells, model = trained
    with md.set_options(pull_on_update=False):
        data = md.MuData({"rna": cells[:40].copy()})
    pgs.tl.joint_phenotype(data, phenotypes=BOTH, model=model)
    pgs.tl.fill_phenotype(data, model=model)
    pgs.tl.joint_phenotype(cells, phenotypes=BOTH)
    found = data.mod["rna"].obs
    np.testing.assert_array_equal(found["polygene_joint"].astype(str), cells.obs["polygene_joint"].astype(str)[:40])
    assert found["polygene_sex_filled"].notna().all()


def test_no_cells(trained):
    with pytest.raises(ValueError, match="`adata`: found 0 cells"):
        pgs.tl.joint_phenotype(trained[0][:0].copy(), phenotypes=["cell_type", "sex"], model=trained[1])
