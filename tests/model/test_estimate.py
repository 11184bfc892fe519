"""What a training costs follows from a few timed steps on a sample: both by hand; times themselves are not tested."""

from dataclasses import replace

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from polygene_scverse._constants import RANK
from polygene_scverse.model import Polygene, _estimate
from polygene_scverse.model._estimate import _extrapolate, _sample, estimate
from polygene_scverse.model.training._cost import WARM_UP, Cost

SMALL = {"n_hidden": 16, "n_layers": 1, "n_intermediate": 16}
KEYS = ["cell_type", "sex"]


def estimate_of(adata, phenotypes=KEYS, n_steps=1, max_epochs=3, **train_kwargs):
    where = {"layer": None, "use_raw": False, "n_genes": 60, "max_epochs": max_epochs}
    return estimate(
        adata, phenotypes=phenotypes, n_steps=n_steps, model_kwargs=SMALL, train_kwargs=train_kwargs, **where
    )


# from what was measured to all cells


@pytest.fixture
def cost():
    """Seconds of a step 2, to read a cell 0.01, to predict one 0.1; 20 genes a cell."""
    return Cost(2.0, 0.01, 0.1, np.array([10, 30]), 5_000, 1_000)


def test_extrapolation_by_hand(cost):
    table = _extrapolate(cost, 1000, 100, 16, 3)
    training, prediction = table.loc["training"], table.loc["prediction"]
    assert (training["cells"], training["epochs"], training["steps"]) == (900, 3, 3 * 57)
    assert training["seconds"] == pytest.approx(171 * 2.0 + 1000 * 0.01 + 3 * 100 * 0.1)
    assert training["memory_gb"] == pytest.approx((5_000 + 1000 * 200) / 1e9)
    assert (prediction["cells"], prediction["steps"]) == (1000, 8)
    assert prediction["seconds"] == pytest.approx(100.0)
    assert prediction["memory_gb"] == pytest.approx((1_000 + 1000 * 200) / 1e9)


def test_the_linear_path_by_hand(cost):
    """Fitted once, to at most 20,000 cells; its memory counts where it is more than that of the steps."""
    path = {"path_seconds": 3.0, "path_cell_seconds": 0.5, "path_bytes": 1_000, "path_cell_bytes": 10}
    without, table = (_extrapolate(c, 1000, 100, 16, 3).loc["training"] for c in (cost, replace(cost, **path)))
    assert table["seconds"] - without["seconds"] == pytest.approx(3.0 + 900 * 0.5)
    assert table["memory_gb"] - without["memory_gb"] == pytest.approx((1_000 + 900 * 10 - 5_000) / 1e9)
    many = [_extrapolate(c, 50_000, 0, 16, 3).loc["training", "seconds"] for c in (cost, replace(cost, **path))]
    assert many[1] - many[0] == pytest.approx(3.0 + 20_000 * 0.5)
    small = _extrapolate(replace(cost, path_bytes=4_999), 1000, 100, 16, 3).loc["training"]
    assert small["memory_gb"] == without["memory_gb"]


def test_prediction_reads_in_blocks(cost):
    few, many = (_extrapolate(cost, n, 0, 16, 1).loc["prediction", "memory_gb"] for n in (10**5, 10**7))
    assert few == many


# the sample


@pytest.fixture
def measured(monkeypatch):
    """The samples that are measured, and how."""
    seen = []

    def measure(model, n_steps, **kwargs):
        seen.append((model, n_steps, kwargs))
        return Cost(2.0, 0.01, 0.1, np.array([10, 30]), 5_000, 1_000)

    monkeypatch.setattr(_estimate, "measure_cost", measure)
    return seen


@pytest.mark.parametrize("kind", ["csr", "csc", "dense", "backed"])
def test_a_sample_has_the_rows_of_the_matrix(kind, simulated, tmp_path):
    simulated.var[RANK] = np.arange(60.0)
    dense = simulated.X.toarray()
    data = simulated.copy()
    data.X = {"csc": sp.csc_matrix, "dense": np.array}.get(kind, sp.csr_matrix)(dense)
    if kind == "backed":
        data.write_h5ad(tmp_path / "cells.h5ad")
        data = ad.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    found = _sample(data, KEYS, 50, None, False)
    rows = simulated.obs_names.get_indexer(found.obs_names)
    assert 50 <= len(rows) < 60
    assert np.all(np.diff(rows) > 0)
    np.testing.assert_array_equal(found.X.toarray(), dense[rows])
    assert list(found.obs) == KEYS
    for key in KEYS:
        np.testing.assert_array_equal(found.obs[key].astype(str), simulated.obs[key].iloc[rows].astype(str))
    pd.testing.assert_frame_equal(found.var, simulated.var[[RANK]])
    if kind == "backed":
        data.file.close()


def test_a_sample_of_few_cells_is_all_of_them(simulated):
    found = _sample(simulated, KEYS, 1000, None, False)
    assert list(found.obs_names) == list(simulated.obs_names)
    assert RANK not in found.var


@pytest.mark.parametrize("where", [{"layer": "counts", "use_raw": False}, {"layer": None, "use_raw": True}], ids=str)
def test_a_sample_is_read_where_it_is_said(where, simulated):
    counts = simulated.X.toarray()
    simulated.layers["counts"], simulated.raw = simulated.X, simulated[:, ::-1].copy()
    simulated.X = -simulated.X
    found = _sample(simulated, KEYS, 1000, **where)
    np.testing.assert_array_equal(found.X.toarray(), counts[:, ::-1] if where["use_raw"] else counts)
    assert list(found.var_names) == list(simulated.var_names[::-1] if where["use_raw"] else simulated.var_names)


def test_a_rare_category_is_in_the_sample(simulated, monkeypatch, measured):
    """So that the network has its size."""
    monkeypatch.setattr(_estimate, "SAMPLE", 20)
    simulated.obs["rare"] = np.where(np.arange(300) == 299, "one", "many")
    table = estimate_of(simulated, "rare", batch_size=4)
    assert table.loc["prediction", "cells"] == 300
    ((model, _, _),) = measured
    assert model.categories == {"rare": ["many", "one"]}
    assert 20 <= model.adata.n_obs <= 22


@pytest.mark.parametrize(
    ("kwargs", "n_cells"),
    [
        ({"batch_size": 4}, 20),
        ({"batch_size": 8}, 8 * (1 + WARM_UP)),
        ({"batch_size": 8, "accumulate_grad_batches": 2}, 64),
    ],
    ids=["at least", "steps", "steps of two batches"],
)
def test_a_sample_has_cells_for_the_steps(kwargs, n_cells, simulated, monkeypatch, measured):
    monkeypatch.setattr(_estimate, "SAMPLE", 20)
    estimate_of(simulated, **kwargs)
    ((model, n_steps, given),) = measured
    assert n_cells <= model.adata.n_obs <= n_cells + 7  # the first cell of each category
    assert (n_steps, given) == (1, kwargs)


def test_arguments_that_cost_nothing_do_not_reach_the_training(simulated, measured):
    passed_over = {"group_key": "donor", "checkpoints": "run", "save_to": "model", "split": None, "verbose": True}
    passed_over |= {"gene_symbols": "symbol", "gene_ids": None}
    table = estimate_of(simulated, **passed_over, mod="rna", seed=3, validation_size=0.5)
    assert measured[0][2] == {"seed": 3}
    expected = _extrapolate(Cost(2.0, 0.01, 0.1, np.array([10, 30]), 5_000, 1_000), 300, 150, 16, 3)
    pd.testing.assert_frame_equal(table, expected)


def test_arguments_of_the_set_up_do_not_reach_the_training(simulated, measured):
    simulated.obs["sex"] = simulated.obs["sex"].astype(object).fillna("unknown")
    estimate_of(simulated, missing=[], ordered=[])
    model, _, given = measured[0]
    assert given == {}
    assert model.categories["sex"] == ["female", "male", "unknown"]


def test_the_sample_is_not_kept_in_memory(simulated, measured):
    """scvi-tools keeps data that were set up in a list of the class."""
    before = len(Polygene._setup_adata_manager_store)
    estimate_of(simulated)
    assert len(Polygene._setup_adata_manager_store) == before


def test_the_data_are_left_alone(simulated, measured):
    before = simulated.copy()
    estimate_of(simulated)
    assert not simulated.uns
    pd.testing.assert_frame_equal(simulated.obs, before.obs)
    assert (simulated.X != before.X).nnz == 0


@pytest.mark.parametrize(
    ("kwargs", "match"),
    [
        ({"n_steps": 0}, "`n_steps`: found 0, but it must be at least 1"),
        ({"validation_size": 2}, "`validation_size`: found 2"),
        ({"max_epochs": "many"}, "`max_epochs`: found 'many'"),
    ],
    ids=["steps", "share", "epochs"],
)
def test_arguments_are_checked_before_anything_is_read(kwargs, match, simulated, measured):
    with pytest.raises(ValueError, match=match):
        estimate_of(simulated, **kwargs)
    assert measured == []
