"""The scripts that measure speed still fit the package, and compare ratios as they say; nothing is timed here."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def scripts(monkeypatch):
    """Makes the folder importable."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield
    for name in set(sys.modules) - before:
        if str(BENCHMARKS) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.fixture
def regression(scripts):
    import regression

    return regression


@pytest.mark.usefixtures("scripts")
def test_steps_are_made_and_taken():
    import gpu
    import speed
    from _simulate import simulate_cells

    cells = speed.Cells(simulate_cells(600, 600), 512)
    table = cells.table()
    np.testing.assert_array_equal(table.lengths, (cells.counts > 0).sum(1).A1)
    config = gpu.ALL_NETWORKS["default"]
    for name, rates in gpu.RATES.items():
        (batch, *_) = speed.our_batches(table, rates, 8)
        assert speed.needed_operations(batch, config, cells.layout, name == "train") > 1e6
        found = speed.our_step(cells.layout, config, name == "train", "cpu", torch.bfloat16)(batch)
        speed.our_step(cells.layout, config, name == "train")(batch)
        if name == "predict":
            assert all(np.allclose(part.sum(1), 1, atol=1e-5) for part in gpu.probabilities(found))


def test_committed_ratios_are_read(regression):
    found = regression.ratios((BENCHMARKS / "results" / "speed.md").read_text())
    assert found["512", "64/12/4", "train"] == 15
    assert found["2000", "density 5 %", "feed: batches, each epoch"] == 2.66
    assert len(found) == 18


def test_ratios_that_fell_below_the_share(regression):
    committed = {("512", "a", "train"): 10.0, ("512", "a", "infer"): 4.0, ("2432", "a", "train"): 90.0}
    measured = {("512", "a", "train"): 4.9, ("512", "a", "infer"): 2.0}
    assert regression.fallen(committed, measured, 0.5) == {("512", "a", "train"): (10.0, 4.9)}
    assert regression.fallen(committed, measured, 0.4) == {}


def test_tables_without_common_rows_are_an_error(regression):
    with pytest.raises(KeyError, match="none of the measured rows"):
        regression.fallen({("512", "a", "train"): 1.0}, {("512", "b", "train"): 1.0}, 0.5)
