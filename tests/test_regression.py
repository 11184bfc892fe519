"""The comparison of ratios in benchmarks/regression.py; nothing is timed here."""

import importlib.util
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def regression():
    spec = importlib.util.spec_from_file_location("regression", BENCHMARKS / "regression.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


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
