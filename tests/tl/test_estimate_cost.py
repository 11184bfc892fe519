"""The parts of an estimate fit together; times themselves are not tested."""

import math

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import polygene_scverse as pgs
from polygene_scverse.model.training._training import default_max_epochs
from polygene_scverse.tl._estimate_cost import duration

SMALL = {"n_hidden": 16, "n_layers": 1, "n_intermediate": 16}
QUICK = {"phenotypes": ["cell_type", "sex"], "n_steps": 2, "model_kwargs": SMALL, "verbose": False}


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
    assert epochs == 12
    assert epochs == default_max_epochs(np.diff(cells.X.indptr)[:150])


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


def test_the_scale_is_detected_as_in_training():
    """Total counts of cells, or what scanpy notes, tell it; only without them a warning is given, once."""
    cells = pgs.datasets.pbmc68k()
    quick = QUICK | {"phenotypes": "bulk_labels", "n_genes": 50}
    pgs.tl.estimate_cost(cells, **quick)
    del cells.obs["n_counts"]
    with pytest.warns(UserWarning, match="target sum of the normalisation is unknown") as seen:
        pgs.tl.estimate_cost(cells, **quick)
    assert [w.filename for w in seen] == [__file__]


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
        ({"n_steps": 0}, ValueError, "`n_steps`: found 0, but it must be at least 1"),
        ({"validation_size": 2}, ValueError, "`validation_size`: found 2"),
        ({"phenotypes": "cell"}, KeyError, r"\['cell'\] are not columns"),
        ({"layer": "no"}, KeyError, "'no' is not one of the layers"),
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
