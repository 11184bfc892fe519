"""A training that breaks off, for want of memory or otherwise; steps that are made of several batches."""

import os
import signal

import lightning.pytorch as pl
import numpy as np
import pytest
import torch

from polygene_scverse.data.feed._loader import CellSplitter
from polygene_scverse.data.feed._masking import MaskingRates
from polygene_scverse.model import Checkpoints
from polygene_scverse.model.training._plan import PolygeneTrainingPlan
from polygene_scverse.model.training._run import OutOfMemoryError, TrainingRun
from polygene_scverse.model.training._trainer import trainer_defaults

QUIET = {"max_epochs": 2, "enable_progress_bar": False}
STILL = {"dropout": 0.0}


class Gradients(pl.Callback):
    """Gradients of each step before they are clipped, cells of each batch, and what is to be done at a step."""

    def __init__(self, at=None, do=None):
        self.at, self.do, self.gradients, self.rows = at, do, [], []

    def on_train_batch_start(self, trainer, plan, batch, batch_idx):
        self.rows.append(batch["rows"].tolist())
        if trainer.global_step == self.at:
            self.do()

    def on_before_optimizer_step(self, trainer, plan, optimizer):
        self.gradients.append({name: p.grad.clone() for name, p in plan.module.named_parameters()})


def stop():
    raise RuntimeError("the cat is on the keyboard")


def press_ctrl_c():
    os.kill(os.getpid(), signal.SIGINT)


def fit(model, **kwargs):
    seen = kwargs.pop("seen", None) or Gradients()
    model.train(**{**QUIET, "callbacks": [seen], **kwargs})
    return seen


def assert_close(model, other, atol=1e-5):
    for name, value in model.module.state_dict().items():
        torch.testing.assert_close(other.module.state_dict()[name], value, rtol=0, atol=atol, msg=name)


# accumulation


@pytest.mark.parametrize("parts", [2, 3, 16])
def test_accumulated_gradients_are_those_of_the_whole_step(cells, model_of, parts):
    """Cells differ in the number of targets and of known labels: a mean of means would be something else."""
    whole, divided = (model_of(cells(missing=0.5), **STILL) for _ in range(2))
    a, b = fit(whole, batch_size=48), fit(divided, batch_size=48 // parts, accumulate_grad_batches=parts)
    assert len(a.gradients) == len(b.gradients) == 4  # 54 cells: the last step has 6, some batches of it none
    assert len(b.rows) == 4 * parts
    for of_whole, of_divided in zip(a.gradients, b.gradients, strict=True):
        for name, gradient in of_whole.items():
            torch.testing.assert_close(of_divided[name], gradient, rtol=1e-4, atol=1e-5, msg=name)
    assert_close(whole, divided)
    for name, table in whole.history_.items():
        np.testing.assert_allclose(divided.history_[name].astype(float), table.astype(float), rtol=1e-4, err_msg=name)


# memory


@pytest.fixture
def small_memory(monkeypatch):
    """A training step runs out of memory with more cells than it is given; counts its calls."""
    step, calls = PolygeneTrainingPlan.training_step, []

    def limit(n_cells, first=0):
        def training_step(self, batch, batch_idx):
            calls.append(len(batch["rows"]))
            if len(batch["rows"]) > n_cells and self.trainer.global_step >= first:
                raise OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
            return step(self, batch, batch_idx)

        monkeypatch.setattr(PolygeneTrainingPlan, "training_step", training_step)
        return calls

    return limit


def test_memory_that_runs_out_halves_the_batches_and_keeps_the_steps(model_of, small_memory):
    whole = model_of(**STILL)
    expected = fit(whole, batch_size=16)
    small_memory(8)
    model, seen = model_of(**STILL), Gradients()
    with pytest.warns(UserWarning, match=r"Memory ran out with 16 cells .* restarts with 8: .* 16 cells, in 2") as w:
        fit(model, batch_size=16, seen=seen)
    assert len([x for x in w if "Memory ran out" in str(x.message)]) == 1
    assert sorted(seen.rows[1] + seen.rows[2]) == sorted(expected.rows[0])
    assert_close(whole, model)
    assert set(model.history_) == set(whole.history_)
    assert len(model.history_["train_loss"]) == 2
    assert not model.module.training


def test_it_is_halved_until_it_fits(model_of, small_memory):
    calls = small_memory(4)
    with pytest.warns(UserWarning, match="Memory ran out") as caught:
        fit(model_of(), batch_size=14)
    assert [str(w.message).split(" cells")[0][-2:] for w in caught] == ["14", " 7"]
    assert (calls[:2], max(calls[2:])) == ([14, 7], 4)


def test_training_that_runs_out_late_begins_anew(model_of, small_memory):
    whole = model_of(**STILL)
    fit(whole, batch_size=16)
    small_memory(8, first=6)
    model = model_of(**STILL)
    with pytest.warns(UserWarning, match="restarts"):
        fit(model, batch_size=16)
    assert_close(whole, model)


def test_training_that_runs_out_late_goes_on_from_a_checkpoint(model_of, small_memory, tmp_path):
    whole = model_of(**STILL)
    fit(whole, batch_size=16)
    calls = small_memory(8, first=6)
    model = model_of(**STILL)
    with pytest.warns(UserWarning, match="resumes from the last checkpoint with 8"):
        fit(model, batch_size=16, checkpoints={"folder": tmp_path, "every_steps": 5})
    assert calls[3] == 6  # the last of the first epoch; step 6 has as few, so that step 7 is the one that fails
    assert len(calls) == 8 + 2 * 3  # then steps 5, 6 and 7 in two batches each
    assert_close(whole, model)
    assert len(model.history_["train_loss"]) == 2


def test_a_single_cell_that_is_too_much_is_an_error(model_of, small_memory):
    small_memory(0)
    model = model_of()
    with (
        pytest.warns(UserWarning, match="Memory ran out with 2 cells"),
        pytest.raises(OutOfMemoryError, match="out of memory") as caught,
    ):
        fit(model, batch_size=2)
    assert caught.value.__notes__ == ["No training step was completed, so the model is unchanged."]


# errors and interruptions


def test_an_error_leaves_a_model_that_can_be_used(model_of):
    model, seen = model_of(), Gradients(5, stop)
    with pytest.raises(RuntimeError, match="cat is on the keyboard") as caught:
        fit(model, seen=seen)
    (note,) = caught.value.__notes__
    assert note.startswith("The training ended after 5 steps, in epoch 2 of 2. The model has the weights of that step")
    assert "resume" not in note
    assert model.is_trained_
    assert not model.module.training
    assert (len(model.train_indices), len(model.validation_indices)) == (54, 6)
    assert (len(model.history_["train_loss"]), model.mask_) == (1, "leak-free")
    np.testing.assert_allclose(model.predict_phenotype()["sex"].sum(1), 1, rtol=1e-5)


def test_an_error_before_the_first_step_leaves_an_untrained_model(model_of):
    model, seen = model_of(), Gradients(0, stop)
    with pytest.raises(RuntimeError, match="cat is on the keyboard") as caught:
        fit(model, seen=seen)
    assert caught.value.__notes__ == ["No training step was completed, so the model is unchanged."]
    assert (model.is_trained_, model.module.training, model.history_) == (False, False, None)


@pytest.fixture
def heeded():
    """A process that a shell started in the background ignores Ctrl-C; here it is heeded."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield signal.default_int_handler
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_is_an_interruption_and_not_the_end_of_the_process(model_of, tmp_path, heeded):
    model, seen = model_of(), Gradients(5, press_ctrl_c)
    with pytest.raises(KeyboardInterrupt) as caught:
        fit(model, seen=seen, checkpoints=tmp_path)
    (note,) = caught.value.__notes__
    assert "after 5 steps" in note or "after 6 steps" in note
    assert f"To resume from {tmp_path / 'last.ckpt'}, pass checkpoints with resume=True." in note
    assert signal.getsignal(signal.SIGINT) is heeded
    assert model.is_trained_
    assert not model.module.training


def test_a_failed_second_training_keeps_the_first(trained):
    model = trained()
    before = len(model.history_["train_loss"])
    with pytest.raises(RuntimeError, match="cat is on the keyboard"):
        fit(model, seen=Gradients(0, stop))
    assert model.is_trained_
    assert len(model.history_["train_loss"]) == before


# a training that begins


class Begun(list):
    """Weights at each moment that a training says it begins."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def __call__(self):
        self.append({name: value.clone() for name, value in self.model.module.state_dict().items()})


def run_of(model, batch_size=16, plan_kwargs=None, checkpoints=None, **trainer_kwargs):
    """A further training of a model, and what it says when it begins."""
    train, validation = (model._cells(model.adata, rows).read_all() for rows in (np.arange(54), np.arange(54, 60)))
    begun = Begun(model)
    run = TrainingRun(
        model,
        CellSplitter(train, validation, MaskingRates(), batch_size=batch_size),
        max_epochs=2,
        plan_kwargs=plan_kwargs or {},
        trainer_kwargs=trainer_defaults({"enable_progress_bar": False, **trainer_kwargs}, validated=True),
        checkpoints=checkpoints,
        on_begin=begun,
    )
    return run, begun


def assert_begun_before_the_first_step(run, begun, before):
    assert len(begun) == 1
    assert all(torch.equal(value, begun[0][name]) for name, value in before.items())
    assert run.changed == any(
        not torch.equal(value, before[name]) for name, value in run.model.module.state_dict().items()
    )


@pytest.mark.parametrize("step", [None, 0, 1], ids=["no error", "at the first step", "at the second step"])
def test_a_training_says_once_that_it_begins_before_the_weights_change(trained, step):
    model = trained()
    before = {name: value.clone() for name, value in model.module.state_dict().items()}
    run, begun = run_of(model, callbacks=[Gradients(step, stop)])
    assert (begun, run.changed) == ([], False)
    if step is None:
        run()
    else:
        with pytest.raises(RuntimeError, match="cat is on the keyboard"):
            run()
    assert_begun_before_the_first_step(run, begun, before)
    assert run.changed is (step != 0)


def test_it_begins_anew_where_memory_runs_out_and_before_a_checkpoint_is_read(trained, small_memory, tmp_path):
    model, other = trained(), trained()
    small_memory(8)
    run, begun = run_of(model, checkpoints=Checkpoints(tmp_path))
    before = {name: value.clone() for name, value in model.module.state_dict().items()}
    with pytest.warns(UserWarning, match="Memory ran out"):
        run()
    first, anew = begun  # with half the cells at a time
    assert all(torch.equal(value, state[name]) for state in (first, anew) for name, value in before.items())
    other.edges_ = model.edges_
    before = {name: value.clone() for name, value in other.module.state_dict().items()}
    run, begun = run_of(other, checkpoints=Checkpoints(tmp_path, resume=True))
    run()
    assert_begun_before_the_first_step(run, begun, before)


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"batch_size": 0}, ValueError, "`batch_size`: found 0"),
        ({"plan_kwargs": {"learning_rate": 1.0}}, TypeError, "learning_rate"),
        ({"plan_kwargs": {"schedule": "step"}}, ValueError, "`schedule`: found 'step'"),
        ({"checkpoints": Checkpoints("/proc/self")}, OSError, "cannot be written to"),
        ({"precision": "7"}, ValueError, "Precision"),
    ],
    ids=["batch size", "plan argument", "schedule", "folder", "precision"],
)
def test_a_training_that_is_refused_does_not_begin(trained, arguments, error, match):
    model = trained()
    run, begun = run_of(model, **arguments)
    with pytest.raises(error, match=match):
        run()
    assert (begun, run.changed, model.is_trained_) == ([], False, True)
    assert len(model.history_["train_loss"]) == 1


def test_a_negative_number_of_epochs_is_refused(model_of):
    """Lightning would train without end."""
    with pytest.raises(ValueError, match="`max_epochs`: found -1, but it must be at least 0"):
        fit(model_of(), max_epochs=-1)


def test_numpy_numbers_of_epochs(cells, model_of):
    model = model_of(cells(30))
    model.train(max_epochs=np.int64(2), enable_progress_bar=False)
    assert len(model.history["train_loss"]) == 2
