"""Cells with much fewer counts than the training cells are pointed out."""

import re

import numpy as np
import pytest
import scanpy as sc

from polygene_scverse.model import Polygene

WORDS = "cells have a median of"


@pytest.fixture(scope="module")
def model():
    from polygene_scverse.datasets import simulate

    adata = simulate(80, 60, mean_count=6.0)
    Polygene.setup_anndata(adata, phenotype_keys=["cell_type"])
    found = Polygene(adata, genes=list(adata.var_names), n_hidden=16, n_layers=1, n_heads=2, n_intermediate=16)
    found.train(max_epochs=1, enable_progress_bar=False)
    return found


def thinned(cells, share):
    adata = cells(60, 60, mean_count=6.0, seed=1)
    adata.X.data = np.random.default_rng(0).binomial(adata.X.data.astype(int), share).astype(np.float32)
    adata.X.eliminate_zeros()
    return adata


@pytest.mark.parametrize("logged", [False, True], ids=["counts", "logged"])
def test_much_fewer_counts(model, cells, logged):
    adata = thinned(cells, 0.2)
    totals = np.asarray(adata.X.sum(1)).ravel(), np.asarray(model.adata.X.sum(1)).ravel()
    if logged:
        sc.pp.normalize_total(adata, target_sum=1e4)
        sc.pp.log1p(adata)
    with pytest.warns(UserWarning, match=WORDS) as said:
        model.predict_phenotype(adata)
    (words,) = [str(w.message) for w in said if WORDS in str(w.message)]
    found = [float(number.replace(",", "")) for number in re.findall(r"([\d,]+)(?= counts,|\. Few)", words)]
    np.testing.assert_allclose(found, [np.median(part) for part in totals], rtol=0.15)


@pytest.mark.parametrize("share", [0.6, 1.0])
def test_somewhat_fewer_counts(model, cells, share):
    model.predict_phenotype(thinned(cells, share))  # a warning is an error


def test_unknown_depths(model, cells, monkeypatch):
    adata = thinned(cells, 0.2)
    monkeypatch.setattr(model.fitted_, "kinds", None)
    model.predict_phenotype(adata)
