"""Ten answers, each held against what was done to the cells."""

from dataclasses import replace

import numpy as np
import pytest
import scanpy as sc
import torch

import polygene_scverse as pgs
from polygene_scverse.abilities import _panel
from polygene_scverse.data.read._gene_names import gene_table

TEN = ["cells", "genes matched", "unmeasured", "extra", "scale", "totals", "silent cells", "phenotypes"]
TEN += ["unknown categories", "expected accuracy"]


@pytest.fixture(scope="module")
def named(_simulated):
    adata = _simulated.copy()
    symbols = [symbol for symbol, ids in gene_table()["human"].items() if len(ids) == 1]
    adata.var_names = symbols[: adata.n_vars]
    return adata


@pytest.fixture(scope="module")
def model(named, small):
    return pgs.tl.train(named.copy(), phenotypes=["cell_type", "sex"], n_genes=40, **small)


def test_ten_answers(model, named):
    query = named[:50, ::-1].copy()
    before = query.copy()
    found = pgs.tl.check(query, model=model)
    assert list(found.index) == TEN
    assert found["genes matched"] == "40 of the model's 40 genes, by name"
    assert found["unmeasured"] == "0 genes of the model"
    assert found["extra"].startswith(f"{query.n_vars - 40:,} genes that the model does not use: ")
    assert "counts" in found["scale"]
    known = query.obs["sex"].notna().sum()
    assert f"sex (known in {known:,} cells)" in found["phenotypes"]
    assert found["unknown categories"] == "none"
    assert found["expected accuracy"].startswith("cell_type ")
    assert found["expected accuracy"].endswith("on held-out cells; expect less for donors that were not in training")
    np.testing.assert_array_equal(query.X.toarray(), before.X.toarray())
    assert list(query.obs) == list(before.obs)
    assert query.uns == before.uns


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"n_groups": 2}, "on 2 held-out groups of 'donor'"),
        ({"n_training_groups": 5}, "on held-out cells of the training groups of 'donor'; expect less for new groups"),
    ],
)
def test_expected_accuracy_says_which_cells_it_is_from(model, named, monkeypatch, change, where):
    entries = {name: replace(e, group_key="donor", **change) for name, e in model.fitted_.calibration.items()}
    monkeypatch.setattr(model.fitted_, "calibration", entries)
    assert pgs.tl.check(named[:50], model=model)["expected accuracy"].endswith(where)


def test_what_is_wrong_is_said(model, named):
    query = named[:50, named.var_names.isin(model.genes[:30])].copy()
    ids = [f"{gene_table()['human'][name][0]}.2" for name in query.var_names]
    query.X = query.X.multiply(np.arange(50)[:, None] != 7).tocsr()
    query.var_names = ids
    query.obs["cell_type"] = "hitherto unknown"
    del query.obs["sex"]
    found = pgs.tl.check(query, model=model)
    assert found["genes matched"] == "30 of the model's 40 genes, by Ensembl id and symbol"
    assert found["unmeasured"].startswith("10 genes of the model: ")
    assert "cell_type (known in 0 cells), sex (not recorded)" in found["phenotypes"]
    assert found["unknown categories"] == "cell_type: ['hitherto unknown']"
    silent = (query.X.toarray().sum(axis=1) == 0).sum()
    assert found["silent cells"] == f"{silent:,} cells express no gene of the model"
    assert silent >= 1
    assert "% of the counts in training" in found["totals"]


def test_shallow_cells_are_counted(model, named, monkeypatch):
    """As many genes as the measured ones add up to: 30 genes of 0.35."""
    query = named[:50, named.var_names.isin(model.genes[:30])].copy()
    assert pgs.tl.check(query, model=model)["silent cells"] == "none"
    monkeypatch.setitem(model.module.linear._buffers, "usual", torch.full((40,), 0.35))
    shallow = (np.diff(query.X.tocsr().indptr) < 10.5).sum()
    assert 0 < shallow < 50
    expected = f"none; {shallow:,} express fewer than 11 genes, as 5 % of the training cells do"
    assert pgs.tl.check(query, model=model)["silent cells"] == expected


def test_data_that_cannot_be_read_are_told_apart(model, named):
    query = named[:50].copy()
    sc.pp.normalize_total(query, target_sum=1e4)
    sc.pp.log1p(query)
    query.X = query.X.toarray() - 1.0
    found = pgs.tl.check(query, model=model)
    assert list(found.index) == TEN
    assert found["scale"].startswith("cannot be used: ")
    assert "negative" in found["scale"]
    assert found["expected accuracy"] == "none, because the expression cannot be used"


def test_too_few_genes_in_common(model, named, monkeypatch):
    monkeypatch.setattr(_panel, "LEAST_OVERLAP", 0.2)
    query = named[:50].copy()
    query.var_names = [*model.genes[:3], *(f"other{i}" for i in range(3, query.n_vars))]
    found = pgs.tl.check(query, model=model)
    assert found["expected accuracy"] == "none, because too few genes of the model are in these data to predict"
    with pytest.raises(ValueError, match="3 of the model's 40 genes are in these data, which is too few"):
        pgs.tl.predict_phenotype(query, model=model)


def test_no_gene_in_common(model, named):
    query = named[:50].copy()
    query.var_names = [f"other{i}" for i in range(query.n_vars)]
    found = pgs.tl.check(query, model=model)
    assert list(found.index) == TEN
    assert found["genes matched"].startswith("0 of the model's 40 genes")
    assert found["expected accuracy"] == "none, because no gene of the model is in these data"
