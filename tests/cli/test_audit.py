"""`polygene audit`: the table of the verb, in a file."""

import anndata as ad
import pandas as pd

import polygene_scverse as pgs


def test_audit(polygene, shards, tmp_path, monkeypatch):
    seen = {}

    def audit(adata, **arguments):
        seen.update(arguments, n_obs=adata.n_obs)
        return pd.DataFrame({"phenotype": ["sex"], "recorded": ["male"]})

    monkeypatch.setattr(pgs.tl, "audit", audit)
    flags = ["--sample-key", "donor", "--phenotypes", "sex,cell_type", "--n-folds", "2", "-o", tmp_path / "a.csv"]
    assert "1 records" in polygene("audit", shards / "s_1.h5ad", *flags).said
    expected = {"sample_key": "donor", "n_folds": 2, "phenotypes": ["sex", "cell_type"], "n_obs": 50}
    assert seen == expected
    assert list(pd.read_csv(tmp_path / "a.csv")) == ["phenotype", "recorded"]


def test_a_model_of_other_cells(polygene, shards, model_folder, tmp_path):
    path, table = tmp_path / "cells.h5ad", tmp_path / "a.csv"
    cells = ad.read_h5ad(shards / "s_1.h5ad")
    cells.obs["sample"] = cells.obs["donor"].astype(str) + cells.obs["sex"].astype(str)  # sex is constant within it
    cells.write_h5ad(path)
    flags = ["--sample-key", "sample", "--phenotypes", "sex", "--model", model_folder, "-o", table]
    polygene("audit", path, *flags)
    expected = pgs.tl.audit(ad.read_h5ad(path), sample_key="sample", phenotypes=["sex"], model=model_folder)
    assert len(pd.read_csv(table)) == len(expected) > 1
    said = polygene("audit", path, *flags, "--overwrite", "--n-folds", "3", code=2).said
    assert "Error: --model: passed together with ['n_folds'], which have no effect" in said
