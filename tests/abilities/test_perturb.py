"""Perturbed genes: cells that were edited by hand give the same, and each cell is compared with itself."""

from dataclasses import replace

import numpy as np
import pytest

from polygene_scverse.abilities import _perturb
from polygene_scverse.abilities._expected_expression import expected_expression
from polygene_scverse.abilities._perturb import matched_genes, mean_expression, perturb
from polygene_scverse.abilities._predict import predict
from polygene_scverse.data.feed._table import CellTable
from polygene_scverse.engine import Engine, Query


@pytest.fixture
def table(trained_model, query):
    cells = trained_model._cells(query, np.arange(query.n_obs))
    return cells.read(np.arange(len(cells)))


@pytest.fixture
def engine(trained_model):
    return Engine(trained_model.module, 16)


def edited(table: CellTable, gene: int, n_bin: int, value: float) -> CellTable:
    """The same cells with a gene set in every cell, by way of dense arrays."""
    rows = np.repeat(np.arange(len(table)), table.lengths)
    bins = np.zeros((len(table), table.layout.n_genes), dtype=np.int16)
    values = np.zeros(bins.shape, dtype=np.float32)
    bins[rows, table.cells.genes], values[rows, table.cells.genes] = table.cells.bins, table.cells.values
    bins[:, gene], values[:, gene] = n_bin, value
    at, genes = np.nonzero(bins)
    indptr = np.concatenate([[0], np.cumsum(np.bincount(at, minlength=len(table)))])
    cells = replace(
        table.cells, indptr=indptr, genes=genes.astype(np.int32), bins=bins[at, genes], values=values[at, genes]
    )
    return replace(table, cells=cells)


@pytest.mark.parametrize(("n_bin", "value"), [(0, 0.0), (9, 3.5)], ids=["knockout", "overexpress"])
def test_shifts_are_those_of_cells_edited_by_hand(engine, trained_model, table, n_bin, value):
    responses, gene = np.array([20, 7, 31]), 3
    found = perturb(engine, trained_model.fitted_, table, [((gene, n_bin, value),)], responses)
    new = edited(table, gene, n_bin, value)
    rows = np.repeat(np.arange(len(table)), table.lengths)
    current = np.zeros(len(table), dtype=int)
    current[rows[table.cells.genes == gene]] = table.cells.bins[table.cells.genes == gene]
    changed = np.flatnonzero(current != n_bin)
    assert 0 < len(changed) == found.n_cells[0]
    names = list(trained_model.categories)
    before, after = (predict(engine, trained_model.fitted_, t, Query(), names) for t in (table, new))
    expected = np.concatenate([(after[n] - before[n])[changed].mean(0) for n in names])
    np.testing.assert_allclose(found.probabilities[0], expected, atol=2e-6)
    some = np.sort(changed[: _perturb.MOST_ASKED]) if len(changed) <= _perturb.MOST_ASKED else None
    if some is not None:
        (old,), (then,) = (expected_expression(engine, t.read(some), responses, keep=1.0) for t in (table, new))
        np.testing.assert_allclose(found.expression[0], (then - old).mean(0), atol=2e-5)


def test_a_response_that_is_perturbed_too_is_compared_with_cells_that_show_it(engine, trained_model, table):
    responses = np.array([3, 20, 7])
    both = perturb(engine, trained_model.fitted_, table, [((3, 9, 3.5),)], responses)
    alone = perturb(engine, trained_model.fitted_, table, [((3, 9, 3.5),)], responses[1:])
    assert np.isnan(both.expression[0, 0])
    np.testing.assert_allclose(both.expression[0, 1:], alone.expression[0], atol=2e-6)


def test_a_gene_that_no_cell_expresses_shifts_nothing(engine, trained_model, table):
    silent = edited(table, 3, 0, 0.0)
    found = perturb(engine, trained_model.fitted_, silent, [((3, 0, 0.0),), ((4, 0, 0.0),)], np.array([7]))
    assert found.n_cells[0] == 0
    assert np.isnan(found.probabilities[0]).all()
    assert np.isnan(found.expression[0]).all()
    assert np.isfinite(found.probabilities[1]).all()
    np.testing.assert_allclose(found.probabilities[1].sum(), 0.0, atol=1e-5)


def test_a_draw_of_cells_stands_for_all(engine, trained_model, table, monkeypatch):
    change, genes = [((3, 9, 3.5),)], np.array([7])
    whole = perturb(engine, trained_model.fitted_, table, change, genes)
    monkeypatch.setattr(_perturb, "MOST_CHANGED", 25)
    part = perturb(engine, trained_model.fitted_, table, change, genes)
    assert whole.n_cells[0] == part.n_cells[0] > 25
    assert np.abs(whole.probabilities - part.probabilities).max() > 0
    assert np.abs(whole.probabilities - part.probabilities).max() < 0.2


def test_mean_expression(table):
    np.testing.assert_allclose(
        mean_expression(table), np.asarray(table.cells.matrix(table.layout.n_genes).mean(0)).ravel(), rtol=1e-5
    )


def test_random_genes_are_near_in_expression_and_drawn_once():
    expression = np.arange(200.0)
    usable = np.ones(200, dtype=bool)
    usable[[50, 150]] = False
    found = matched_genes([(50,), (150,)], expression, usable, 40, 0)
    genes = np.array(found).ravel()
    assert len(np.unique(genes)) == 40
    assert not set(genes) & {50, 150}
    assert np.abs(expression[genes[::2]] - 50).max() < 45  # those of the first gene
    assert np.abs(expression[genes[1::2]] - 150).max() < 45
    assert matched_genes([(50,), (150,)], expression, usable, 40, 0) == found
    assert matched_genes([(50,), (150,)], expression, usable, 40, 1) != found
    pairs = matched_genes([(50, 150), (3,)], expression, usable, 5, 0)
    assert [len(p) for p in pairs] == [1] * 5 + [2] * 5
    assert len(matched_genes([(50,)], expression, np.arange(200) < 7, 40, 0)) == 7
