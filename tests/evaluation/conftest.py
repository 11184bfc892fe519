"""Arguments that make a training short, and what comes of them."""

import pytest

import polygene_scverse as pgs

SMALL = {"max_epochs": 2, "verbose": False, "model_kwargs": {"n_hidden": 16, "n_layers": 1, "n_intermediate": 16}}


@pytest.fixture(scope="session")
def small():
    """Arguments that make a training short."""
    return SMALL


@pytest.fixture
def cells(simulated):
    return simulated.copy()


@pytest.fixture
def trained(cells):
    """Data that a model was trained on, and the model."""
    return cells, pgs.tl.train(cells, phenotypes=["cell_type", "sex"], **SMALL)
