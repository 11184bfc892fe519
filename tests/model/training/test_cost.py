"""What is measured of a few steps; times are not tested, only that they are there."""

import tracemalloc

import numpy as np
import pytest
import torch

from polygene_scverse.abilities import _calibrate
from polygene_scverse.abilities._calibrate import fit_path
from polygene_scverse.engine import Engine
from polygene_scverse.fit import FittedState
from polygene_scverse.model.training._cost import WARM_UP, StepClock, kept_bytes, measure_cost
from polygene_scverse.model.training._plan import PolygeneTrainingPlan


@pytest.fixture
def steps(monkeypatch):
    """Cells of each training step."""
    seen, step = [], PolygeneTrainingPlan.training_step

    def training_step(self, batch, batch_idx):
        seen.append(len(batch["rows"]))
        return step(self, batch, batch_idx)

    monkeypatch.setattr(PolygeneTrainingPlan, "training_step", training_step)
    return seen


def test_so_many_steps_are_done_with_the_arguments_of_the_training(model_of, steps):
    model = model_of()
    cost = measure_cost(model, 5, batch_size=20)
    assert len(steps) == WARM_UP + 5  # more than an epoch, which has three
    assert max(steps) == 20
    assert min(cost.step_seconds, cost.read_seconds, cost.predict_seconds) > 0
    np.testing.assert_array_equal(cost.lengths, np.diff(model.adata.X.indptr))


def test_the_clock_leaves_the_first_steps_out():
    clock = StepClock()
    clock.first, clock.last, clock.started, clock.ended = 3, 7, 10.0, 12.0
    assert clock.seconds == 0.5


def batch_of(model, n):
    from polygene_scverse.data.feed._loader import BatchDataset
    from polygene_scverse.data.feed._masking import MaskingRates

    model.edges_ = [0.0, *np.linspace(0.1, 9, 9)]
    rows = np.arange(60), np.arange(0)
    table = model._training_cells(model._expression(model.adata), rows, None).train
    return BatchDataset(table, MaskingRates())[0, np.arange(n)]


def test_kept_memory_by_hand():
    """Of x @ w, relu and a sum, torch keeps x and the mask's tensor; w is a weight."""

    class Module(torch.nn.Linear):
        def _get_inference_input(self, batch):
            return {"x": batch["x"]}

        def inference(self, x):
            return {"y": self(x)}

        def generative(self, y):
            return {"z": torch.relu(y)}

        def loss(self, batch, outputs, logits):
            return logits["z"].sum()

        device = torch.device("cpu")

    x = torch.ones(5, 7)
    assert kept_bytes(Module(7, 11, bias=False), {"x": x}) == 4 * (5 * 7 + 5 * 11)


def test_kept_memory_grows_with_cells_and_layers_and_leaves_the_module_as_it_was(model_of):
    model, deeper = model_of(), model_of(n_layers=2)
    model.module.eval()
    state = torch.get_rng_state()
    small, large, deep = (kept_bytes(m.module, batch_of(m, n)) for m, n in ((model, 10), (model, 40), (deeper, 40)))
    assert 2 * small < large < deep
    assert not model.module.training
    assert torch.equal(torch.get_rng_state(), state)
    assert all(p.grad is None for p in model.module.parameters())


def test_memory_of_network_gradients_and_moments(model_of):
    model = model_of()
    weights = 4 * sum(p.numel() for p in model.module.parameters())
    cost = measure_cost(model, 1)
    assert cost.train_bytes > 4 * weights
    assert cost.predict_bytes > weights


def test_memory_of_the_linear_path(model_of, monkeypatch):
    """What numpy asks for while it is fitted."""
    monkeypatch.setattr(_calibrate, "MAX_CELLS", 60)
    model = model_of()
    cost, table = measure_cost(model, 1), model._cells(model.adata, np.arange(60)).read_all()
    tracemalloc.start()
    try:
        fit_path(Engine(model.module), FittedState(), table, 0)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    said = cost.path_bytes + 60 * cost.path_cell_bytes
    assert 0.3 * peak < said < 3 * peak
    assert cost.path_seconds + len(table) * cost.path_cell_seconds > 0


def test_without_a_linear_path_nothing_is_fitted(model_of):
    cost = measure_cost(model_of(linear_path=False), 1)
    assert cost.path_bytes == cost.path_cell_bytes == 0
