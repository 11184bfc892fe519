"""Cells in a file are predicted and embedded as cells in memory are, block by block."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import polygene_scverse as pgs
from polygene_scverse.data.read import _expression
from polygene_scverse.engine import _engine


@pytest.fixture
def sizes(monkeypatch):
    """Blocks of 7 cells, of which as many tell the scale; the number of cells of each that is read."""
    found, read = [], _expression.read_rows

    def noted(x, rows):
        found.append(len(rows))
        return read(x, rows)

    monkeypatch.setattr(_expression, "read_rows", noted)
    monkeypatch.setattr(_expression, "SAMPLE_ROWS", 7)
    monkeypatch.setattr(_expression, "BLOCK", 7)
    monkeypatch.setattr(_engine, "BLOCK", 7)
    return found


@pytest.fixture
def backed(query, tmp_path):
    """The cells of `query` in a file that is not read as a whole."""
    query.write_h5ad(tmp_path / "cells.h5ad")
    data = ad.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    yield data
    data.file.close()


def whole(*_, **__):
    raise AssertionError("the whole matrix was read")


def test_prediction_reads_blocks(trained_model, query, backed, sizes, monkeypatch):
    monkeypatch.setattr(type(backed.X), "to_memory", whole)
    found = trained_model.predict_phenotype(backed)
    assert max(sizes) == 7
    assert sizes == [7] * 8 + [1]  # to see the scale, and to predict
    for name, table in trained_model.predict_phenotype(query).items():
        pd.testing.assert_frame_equal(found[name], table, atol=1e-6)


def test_embedding_reads_blocks(trained_model, query, backed, sizes, monkeypatch):
    monkeypatch.setattr(type(backed.X), "to_memory", whole)
    found = trained_model.get_latent_representation(backed)
    assert max(sizes) == 7
    np.testing.assert_allclose(found, trained_model.get_latent_representation(query), atol=1e-5)


def test_chosen_cells_of_a_file(trained_model, query, backed, sizes):
    indices = [11, 2, 2, 17]
    found = trained_model.predict_phenotype(backed, indices=indices)["sex"]
    assert sizes == [7, 4]  # cells of the whole file tell the scale
    pd.testing.assert_frame_equal(found, trained_model.predict_phenotype(query)["sex"].iloc[indices], atol=1e-6)


def test_the_verbs_write_beside_a_file(trained_model, query, backed):
    for data in (query, backed):
        pgs.tl.predict_phenotype(data, model=trained_model)
        pgs.tl.embed(data, model=trained_model, umap=False)
    assert backed.isbacked
    np.testing.assert_allclose(backed.obsm["X_polygene"], query.obsm["X_polygene"], atol=1e-5)
    np.testing.assert_allclose(backed.obsm["polygene_sex_proba"], query.obsm["polygene_sex_proba"], atol=1e-6)
    assert list(backed.obs["polygene_sex"]) == list(query.obs["polygene_sex"])


def test_dense_files(trained_model, query, sizes, tmp_path):
    expected = trained_model.predict_phenotype(query)["sex"]
    query.X = query.X.toarray()
    query.write_h5ad(tmp_path / "dense.h5ad")
    data = ad.read_h5ad(tmp_path / "dense.h5ad", backed="r")
    pd.testing.assert_frame_equal(trained_model.predict_phenotype(data)["sex"], expected, atol=1e-6)
    assert max(sizes) == 7
    data.file.close()
