"""Cells that are evaluated on, and features that three genes tell apart."""

import numpy as np
import pytest

from polygene_scverse.evaluation._features import Features


@pytest.fixture(scope="session")
def told_apart():
    """Features and codes of 60 training cells, and of 30 test cells, that three genes tell apart.

    Some training cells are of an unknown category, none is of the last of the four.
    """
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 3, 90)
    x = rng.normal(0, 1, (90, 60)).astype(np.float32)
    x[np.arange(90), codes] += 6
    train, test = (Features(x[rows], None) for rows in (slice(0, 60), slice(60, 90)))
    known = codes[:60].copy()
    known[::7] = -1
    return train, known, test, codes[60:]


@pytest.fixture
def cells(simulated):
    return simulated


@pytest.fixture
def trained(simulated_and_model):
    return simulated_and_model
