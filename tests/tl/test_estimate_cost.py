"""The parts of an estimate fit together; times themselves are not tested."""

import math
from dataclasses import replace

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import polygene_scverse as pgs
from polygene_scverse.model.training._cost import Cost
from polygene_scverse.tl._estimate_cost import _extrapolate, duration

SMALL = {"n_hidden": 16, "n_layers": 1, "n_intermediate": 16}
QUICK = {"phenotypes": ["cell_type", "sex"], "n_steps": 2, "model_kwargs": SMALL, "verbose": False}


@pytest.fixture
def cost():
    """Seconds of a step 2, to read a cell 0.01, to predict one 0.1; 20 genes a cell."""
    return Cost(2.0, 0.01, 0.1, np.array([10, 30]), 5_000, 1_000)


def test_extrapolation_by_hand(cost):
    table = _extrapolate(cost, 1000, 100, 16, 3)
    training, prediction = table.loc["training"], table.loc["prediction"]
    assert (training["cells"], training["epochs"], training["steps"]) == (900, 3, 3 * 57)
    assert training["seconds"] == pytest.approx(171 * 2.0 + 1000 * 3 * 0.01 + 3 * 100 * 0.1)
    assert training["memory_gb"] == pytest.approx((5_000 + 1000 * 200) / 1e9)
    assert (prediction["cells"], prediction["steps"]) == (1000, 16)
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


def test_an_estimate_of_some_cells(cells):
    table = pgs.tl.estimate_cost(cells, batch_size=20, accumulate_grad_batches=2, max_epochs=5, **QUICK)
    assert list(table.index) == ["training", "prediction"]
    assert list(table.columns) == ["cells", "epochs", "steps", "seconds_per_step", "seconds", "memory_gb"]
    assert (table > 0).all().all()
    training = table.loc["training"]
    assert (training["cells"], training["epochs"]) == (270, 5)
    assert training["steps"] == 5 * math.ceil(270 / 40)
    assert training["seconds"] > training["steps"] * training["seconds_per_step"]


def test_default_epochs_are_those_of_the_training(cells):
    epochs = pgs.tl.estimate_cost(cells, validation_size=0.5, **QUICK).loc["training", "epochs"]
    assert epochs == 20
    assert epochs == pgs.model._training.default_max_epochs(np.diff(cells.X.indptr)[:150])


def test_a_larger_network_needs_more_memory(cells):
    small, large = (
        pgs.tl.estimate_cost(cells, **QUICK | {"model_kwargs": kwargs}).loc["training", "memory_gb"]
        for kwargs in (SMALL, SMALL | {"n_hidden": 64, "n_layers": 2})
    )
    assert large > 2 * small


def test_the_data_are_as_before(cells):
    expected = cells.copy()
    pgs.tl.estimate_cost(cells, **QUICK)
    np.testing.assert_array_equal(cells.X.toarray(), expected.X.toarray())
    pd.testing.assert_frame_equal(cells.obs, expected.obs)
    pd.testing.assert_frame_equal(cells.var, expected.var)
    assert not cells.uns
    with pytest.raises(ValueError, match="`model`: none was passed, none was trained on this object"):
        pgs.tl.predict_phenotype(cells)


def test_backed_data_layers_and_arguments_that_cost_nothing(cells, tmp_path):
    cells.layers["counts"], cells.X = cells.X, None
    cells.write_h5ad(tmp_path / "cells.h5ad")
    backed = ad.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    kwargs = {"group_key": "donor", "checkpoints": tmp_path / "run", "save_to": tmp_path / "model", "seed": 1}
    table = pgs.tl.estimate_cost(backed, layer="counts", **kwargs, **QUICK)
    assert table.loc["training", "cells"] == 270
    assert [path.name for path in tmp_path.iterdir()] == ["cells.h5ad"]


def test_a_rare_category_is_in_the_sample(cells, monkeypatch):
    monkeypatch.setattr("polygene_scverse.tl._estimate_cost.SAMPLE", 20)
    cells.obs["rare"] = np.where(np.arange(300) == 299, "one", "many")
    table = pgs.tl.estimate_cost(cells, **QUICK | {"phenotypes": "rare"}, batch_size=4)
    assert table.loc["prediction", "cells"] == 300


def test_a_table_is_printed_if_wanted(cells, capsys):
    pgs.tl.estimate_cost(cells, **QUICK)
    assert capsys.readouterr().out == ""
    pgs.tl.estimate_cost(cells, **QUICK | {"verbose": True})
    out = capsys.readouterr().out
    assert "Cost on this machine" in out
    assert "270" in out


@pytest.mark.parametrize(
    ("kwargs", "error", "match"),
    [
        ({"n_steps": 0}, ValueError, "`n_steps`: found 0, but at least one"),
        ({"validation_size": 2}, ValueError, "`validation_size`: found 2"),
        ({"phenotypes": "cell"}, KeyError, r"\['cell'\] not among the columns"),
        ({"layer": "no"}, KeyError, "'no' is not among the layers"),
    ],
    ids=["steps", "share", "phenotype", "layer"],
)
def test_arguments_are_checked(kwargs, error, match, cells):
    with pytest.raises(error, match=match):
        pgs.tl.estimate_cost(cells, **QUICK | kwargs)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0.123, "0.12 s"), (59.6, "60 s"), (119, "2 min"), (3600, "60 min"), (7300, "2 h 2 min")],
    ids=str,
)
def test_durations_in_words(seconds, expected):
    assert duration(seconds) == expected
