"""Cells whose genes have other names get the answers that they get under the model's names."""

import numpy as np
import pandas as pd
import pytest

import polygene_scverse as pgs
from polygene_scverse.data.read._gene_names import gene_table
from polygene_scverse.model import Polygene


@pytest.fixture(scope="module")
def symbols_and_ids():
    pairs = [(symbol, ids[0]) for symbol, ids in gene_table()["human"].items() if len(ids) == 1]
    return pairs[100:2000:7]


@pytest.fixture(scope="module")
def cells(_simulated, symbols_and_ids):
    adata = _simulated.copy()
    adata.var_names = [symbol for symbol, _ in symbols_and_ids[: adata.n_vars]]
    return adata


@pytest.fixture(scope="module")
def model(cells):
    Polygene.setup_anndata(cells, phenotype_keys=["cell_type"])
    model = Polygene(cells, n_genes=cells.n_vars, n_layers=1, n_hidden=16, n_heads=2)
    model.train(max_epochs=1, enable_progress_bar=False)
    return model


def test_ids_with_versions_and_columns_of_var_are_matched(model, cells, symbols_and_ids):
    known = model.predict_phenotype(cells)["cell_type"]
    ids = [f"{gene}.3" for _, gene in symbols_and_ids[: cells.n_vars]]
    other = cells.copy()
    other.var_names = ids
    with pytest.warns(UserWarning, match=rf"{cells.n_vars} by Ensembl id and symbol"):
        found = model.predict_phenotype(other)["cell_type"]
    pd.testing.assert_frame_equal(found, known)
    other.var["odd"] = cells.var_names
    other.var_names = [f"probe{i}" for i in range(cells.n_vars)]
    found = model.predict_phenotype(other, gene_symbols="odd")["cell_type"]
    pd.testing.assert_frame_equal(found, known)
    with pytest.raises(ValueError, match=r"none of its .* genes, e.g. .*probe0.*Ensembl id and symbol"):
        model.predict_phenotype(other)


def test_names_of_genes(model, cells, symbols_and_ids):
    other = cells[:, :10].copy()
    other.var_names = [gene for _, gene in symbols_and_ids[:10]]
    found = model.gene_names(other)
    assert list(found.names) == list(cells.var_names[:10])
    assert found.how == {"Ensembl id and symbol": 10}
    assert np.array_equal(found.matched, np.ones(10, dtype=bool))


def _both_names(adata):
    """Symbols and Ensembl ids of the first genes of the table, as made-up genes of these cells."""
    pairs = [(symbol, ids[0]) for symbol, ids in gene_table()["human"].items() if len(ids) == 1][: adata.n_vars]
    adata.var["symbol"] = [symbol for symbol, _ in pairs]
    adata.var["ensembl"] = [gene for _, gene in pairs]
    return adata


@pytest.mark.filterwarnings("ignore:Genes of these data were matched")
@pytest.mark.parametrize("own", ["symbol", "ensembl", "both"])
@pytest.mark.parametrize("theirs", ["symbol", "ensembl", "both"])
def test_names_of_symbol_and_id_match_by_either(simulated, small, own, theirs):
    cells = _both_names(simulated)
    names = {name: cells.var[name].tolist() for name in ("symbol", "ensembl")}
    names["both"] = [f"{s}_{e}" for s, e in zip(*names.values(), strict=True)]
    cells.var = pd.DataFrame(index=names[own])
    model = pgs.tl.train(cells, phenotypes="cell_type", **{**small, "max_epochs": 1})
    before = model.predict_phenotype(cells)["cell_type"]
    cells.var = pd.DataFrame(index=names[theirs])
    np.testing.assert_array_equal(model.predict_phenotype(cells)["cell_type"], before)


def test_a_model_remembers_what_it_calls_genes_by(simulated, small):
    cells = _both_names(simulated)
    cells.var["symbol"] = [*cells.var["symbol"][:-2], "TWICE", "TWICE"]
    model = pgs.tl.train(cells, phenotypes="cell_type", gene_symbols="symbol", **{**small, "max_epochs": 1})
    assert set(model.genes) == {*cells.var["symbol"][:-2], *cells.var_names[-2:]}
    before = model.predict_phenotype(cells)["cell_type"]
    renamed = cells.copy()
    renamed.var_names = [*cells.var["symbol"][:-2], *cells.var_names[-2:]]
    np.testing.assert_array_equal(model.predict_phenotype(renamed)["cell_type"], before)
    renamed.var = renamed.var.rename(columns={"symbol": "mine"})
    renamed.var_names = [f"row{i}" for i in range(58)] + list(cells.var_names[-2:])
    np.testing.assert_array_equal(model.predict_phenotype(renamed, gene_symbols="mine")["cell_type"], before)
    filled = pgs.tl.fill_phenotype(renamed, model=model, phenotypes="cell_type", gene_symbols="mine")
    assert filled is None
    imputed = pgs.tl.impute(renamed, model=model, gene_symbols="mine")
    assert imputed is None
    assert np.isfinite(renamed.layers["imputed"]).all()


@pytest.mark.filterwarnings("ignore:`adata`")
def test_calibration_and_rows_with_names_in_a_column(model, cells):
    rows = np.arange(0, cells.n_obs, 2)
    other = cells.copy()
    other.var["odd"] = cells.var_names
    other.var_names = [f"probe{i}" for i in range(cells.n_vars)]
    found = model.calibrate(other, indices=rows, gene_symbols="odd")
    pd.testing.assert_frame_equal(found, model.calibrate(cells[rows].copy()))
    arguments = {"genes": [cells.var_names[0]], "n_null": 2}
    found = model.perturb(other, indices=rows, gene_symbols="odd", **arguments)
    expected = model.perturb(cells, indices=rows, **arguments)
    np.testing.assert_array_equal(found["expression"], expected["expression"])
    assert found["n_cells"][0] == (cells.X[rows, 0] > 0).sum()
