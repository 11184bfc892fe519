"""A training that was interrupted ends as if it had not been."""

import ast
import os
import signal
import subprocess
import sys

import lightning.pytorch as pl
import pandas as pd
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from scvi.train import Trainer

from polygene_scverse.model import Polygene

QUIET = {"max_epochs": 3, "enable_progress_bar": False, "batch_size": 8}  # 54 training cells: 7 steps per epoch


class StopError(Exception):
    """What ends a training in these tests."""


class StopAt(pl.Callback):
    """Raises before a step, and keeps the cells of each batch; step -1 stops before validation in epoch 1."""

    def __init__(self, step=None):
        self.step, self.rows = step, []

    def on_train_batch_start(self, trainer, plan, batch, batch_idx):
        if trainer.global_step == self.step:
            raise StopError
        self.rows.append(batch["rows"].tolist())

    def on_validation_start(self, trainer, plan):
        if self.step == -1 and trainer.current_epoch == 1:
            raise StopError


@pytest.fixture
def run(model_of, tmp_path):
    """Train a fresh model with checkpoints; returns it and the cells of each batch."""

    def run(stop=None, resume=True, model_kwargs=None, model=None, **kwargs):
        seen = StopAt(stop)
        model = model_of(**(model_kwargs or {})) if model is None else model
        checkpoints = {"folder": tmp_path / "run", "every_steps": 3, "resume": resume} | kwargs.pop("checkpoints", {})
        arguments = {**QUIET, "checkpoints": checkpoints, "callbacks": [seen], **kwargs}
        if stop is None:
            model.train(**arguments)
        else:
            with pytest.raises(StopError):
                model.train(**arguments)
        return model, seen.rows

    return run


def uninterrupted(model_of, model_kwargs=None, **kwargs):
    seen, model = StopAt(), model_of(**(model_kwargs or {}))
    model.train(**{**QUIET, "callbacks": [seen], **kwargs})
    return model, seen.rows


def assert_same(a, b, atol=0.0):
    for name, value in a.module.state_dict().items():
        torch.testing.assert_close(b.module.state_dict()[name], value, rtol=0, atol=atol, msg=name)


def assert_same_history(a, b):
    assert set(a.history_) == set(b.history_)
    for name, table in a.history_.items():
        expected = table.astype(float)
        found = b.history_[name].astype(float)
        pd.testing.assert_frame_equal(found, expected, check_index_type=False, rtol=1e-6)


@pytest.mark.parametrize(
    ("stop", "done", "dropout"),
    [(4, 3, 0.3), (8, 7, 0.0), (7, 7, 0.3), (-1, 12, 0.0), (20, 18, 0.0)],
    ids=["within the first epoch", "an epoch later", "at its beginning", "before validation", "in the last epoch"],
)
def test_it_resumes_where_the_checkpoint_was_saved(run, model_of, stop, done, dropout):
    kwargs = {"dropout": dropout}
    whole, rows = uninterrupted(model_of, kwargs)
    _, before = run(stop, model_kwargs=kwargs)
    model, after = run(model_kwargs=kwargs)
    assert before == rows[: len(before)]
    assert after == rows[done:]
    assert_same(whole, model)
    assert_same_history(whole, model)


def test_it_can_be_interrupted_twice_with_early_stopping_and_workers(run, model_of):
    kwargs = {
        "early_stopping": True,
        "early_stopping_patience": 1,
        "plan_kwargs": {"lr": 0.0},
        "loader_kwargs": {"num_workers": 1, "multiprocessing_context": "fork"},
    }
    whole, rows = uninterrupted(model_of, **kwargs)
    run(5, **kwargs)
    run(12, **kwargs)
    model, after = run(**kwargs)
    assert len(rows) == 14  # of two epochs
    assert after == rows[12:]
    assert_same(whole, model)
    assert_same_history(whole, model)
    again, none = run(**kwargs)
    assert none == []
    assert_same(whole, again)
    assert_same_history(whole, again)


def test_the_same_model_can_go_on(run, model_of):
    """After an interruption in a notebook the model has weights and a history; going on replaces both."""
    whole, _ = uninterrupted(model_of)
    model, _ = run(12)
    assert not model.module.training
    run(model=model)
    assert_same(whole, model)
    assert_same_history(whole, model)


def test_a_second_training_goes_on_after_the_first(run, model_of):
    whole, _ = uninterrupted(model_of)
    whole.train(**QUIET)
    first, _ = uninterrupted(model_of)
    model, _ = run(12, model=first)
    model, _ = run(model=model)
    assert_same(whole, model)
    assert len(model.history_["train_loss"]) == 6
    assert_same_history(whole, model)


def test_steps_may_be_divided_otherwise_when_it_goes_on(run, model_of):
    """A step has the same cells in one batch or two; so has the place in an epoch."""
    still = {"dropout": 0.0}
    whole, rows = uninterrupted(model_of, still)
    run(5, model_kwargs=still)
    model, after = run(model_kwargs=still, batch_size=4, accumulate_grad_batches=2)
    assert [sorted(a + b) for a, b in zip(after[::2], after[1::2], strict=True)] == [sorted(r) for r in rows[3:]]
    assert_same(whole, model, atol=1e-5)


@pytest.mark.parametrize(
    ("when", "steps"),
    [
        ({"every_steps": None, "every_epochs": 2}, [14, 21]),
        ({"every_steps": 5, "every_epochs": 9}, [5, 10, 15, 20, 21]),
        ({"every_steps": 7, "every_epochs": 9}, [21]),
    ],
    ids=["epochs", "steps", "steps that end epochs"],
)
@pytest.mark.parametrize("batches", [1, 2], ids=["one batch", "two batches"])
def test_checkpoints_are_saved_after_epochs_and_steps_as_asked(run, monkeypatch, when, steps, batches):
    saved = []
    save = pl.Trainer.save_checkpoint

    def save_checkpoint(self, *args):
        saved.append(self.global_step)
        save(self, *args)

    monkeypatch.setattr(pl.Trainer, "save_checkpoint", save_checkpoint)
    run(resume=False, checkpoints=when, batch_size=8 // batches, accumulate_grad_batches=batches)
    assert saved == steps


def test_a_step_is_saved_once_also_when_it_resumes_with_several_batches(run, monkeypatch):
    kwargs = {"batch_size": 4, "accumulate_grad_batches": 2}
    run(4, **kwargs)
    saved = []
    save = pl.Trainer.save_checkpoint
    monkeypatch.setattr(
        pl.Trainer, "save_checkpoint", lambda self, *args: (saved.append(self.global_step), save(self, *args))
    )
    run(**kwargs)
    assert saved == [6, 7, 9, 12, 14, 15, 18, 21]


def test_one_file_is_kept_and_it_holds_plain_values(run, tmp_path):
    model, _ = run()
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["last.ckpt"]
    state = torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)["polygene"]
    assert state["position"] == {"epoch": 3, "step": 0, "global_step": 21, "finished": True}
    assert state["edges"] == model.edges_


def test_a_checkpoint_that_cannot_be_written_is_warned_of_and_the_last_one_stays(run, model_of, tmp_path, monkeypatch):
    whole, _ = uninterrupted(model_of)
    save = torch.save

    def fails(value, file, **kwargs):
        if value["global_step"] > 6:
            file.write(b"half")
            raise OSError("No space left on device")
        save(value, file, **kwargs)

    monkeypatch.setattr(torch, "save", fails)
    expected = "The checkpoint of step 7 could not .* the last one is of step 6. Training"
    with pytest.warns(UserWarning, match=expected) as caught:
        model, _ = run()
    assert len(caught) == 1
    assert_same(whole, model)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["last.ckpt"]
    assert torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)["global_step"] == 6


def test_what_lightning_and_scvi_tools_cannot_do(tmp_path):
    """Reasons for code of ours: where this test fails, some of it can go."""
    one = {"accelerator": "cpu", "devices": 1, "logger": False}
    with pytest.raises(MisconfigurationException, match="found `ModelCheckpoint` in callbacks list"):
        Trainer(callbacks=[ModelCheckpoint(tmp_path)], **one)
    names = [
        type(c).__name__
        for c in Trainer(callbacks=[ModelCheckpoint(tmp_path)], enable_checkpointing=True, **one).callbacks
    ]
    assert "SaveCheckpoint" in names  # which nobody asked for
    with pytest.raises(MisconfigurationException, match="mutually exclusive"):
        ModelCheckpoint(tmp_path, every_n_epochs=1, every_n_train_steps=3)


# a process that is killed

SCRIPT = """
import sys, os, signal
import lightning.pytorch as pl
import numpy as np
import polygene_scverse as pgs

class Kill(pl.Callback):
    rows = []
    def on_train_batch_start(self, trainer, plan, batch, batch_idx):
        if trainer.global_step == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)
        self.rows.append(batch["rows"].tolist())

if __name__ == "__main__":
    adata = pgs.datasets.simulate(60, 40)
    small = {"n_hidden": 16, "n_layers": 1, "n_heads": 2, "n_intermediate": 16}
    checkpoints = {"folder": sys.argv[1], "every_steps": 4, "resume": True}
    model = pgs.tl.train(
        adata, phenotypes=["cell_type", "sex"], max_epochs=3, verbose=False, model_kwargs=small, batch_size=8,
        checkpoints=checkpoints, callbacks=[Kill()],
    )
    model.save(sys.argv[1] + "/model")
    print(Kill.rows)
"""


@pytest.mark.slow
def test_a_killed_process_goes_on(tmp_path):
    """The training ends with the weights of one that was not killed, and has seen cells in the same order."""
    (tmp_path / "script.py").write_text(SCRIPT)

    def run(folder, step):
        command = [sys.executable, "-W", "ignore", "script.py", str(tmp_path / folder), str(step)]
        return subprocess.run(command, cwd=tmp_path, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True)

    whole = run("whole", -1)
    killed, resumed = run("killed", 10), run("killed", -1)
    assert (whole.returncode, killed.returncode, resumed.returncode) == (0, -signal.SIGKILL, 0), resumed.stderr
    rows, after = (ast.literal_eval(result.stdout.decode().splitlines()[-1]) for result in (whole, resumed))
    assert after == rows[8:]
    a, b = (Polygene.load(tmp_path / folder / "model", adata=False) for folder in ("whole", "killed"))
    assert_same(a, b, atol=1e-5)
    assert_same_history(a, b)
