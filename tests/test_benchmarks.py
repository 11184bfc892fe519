"""The scripts that measure speed still fit the package; what they time is not looked at."""

import sys
from pathlib import Path

import numpy as np
import pytest

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
        module = gpu.PolygeneModule(cells.layout, config, linear_path=False)
        module.train(name == "train")
        found = gpu.make_step(module, "cpu", "bfloat16", name == "train")(batch)
        speed.our_step(cells.layout, config, name == "train")(batch)
        if name == "predict":
            assert all(np.allclose(part.sum(1), 1, atol=1e-5) for part in found)
