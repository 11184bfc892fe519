"""Cells that the verbs are tried on."""

import pytest


@pytest.fixture
def cells(simulated):
    return simulated


@pytest.fixture
def trained(simulated_and_model):
    return simulated_and_model
