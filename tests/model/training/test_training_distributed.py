"""Several processes train as one does. The processes run the script of the documentation."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import polygene_scverse as pgs
from polygene_scverse.model import Polygene

pytestmark = pytest.mark.slow
SCRIPT = Path(__file__).parents[3] / "docs" / "train_distributed.py"
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
SMALL = {"n_hidden": 16, "n_layers": 1, "n_heads": 2, "n_intermediate": 16, "dropout": 0.0}


ROWS = """
import json, os
import lightning.pytorch as pl
from lightning.pytorch.loggers import CSVLogger

class Rows(pl.Callback):
    rows = {}
    def on_train_batch_start(self, trainer, plan, batch, batch_idx):
        if trainer.global_step == int(os.environ["STOP"]):
            raise RuntimeError("stop here")
        self.rows.setdefault(trainer.current_epoch, []).append(batch["rows"].tolist())
    def on_train_end(self, trainer, plan):
        with open(f"{os.environ['ROWS']}.{trainer.global_rank}.json", "w") as file:
            json.dump(self.rows, file)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Cells with many missing labels, and the script with a small network that notes which cells it sees."""
    folder = tmp_path_factory.mktemp("distributed")
    pgs.datasets.simulate(62, 40, missing=0.4).write_h5ad(folder / "cells.h5ad")
    text, said = SCRIPT.read_text(), 'model_kwargs={"size": args.size}'
    assert text.count(said) == 1
    more = "callbacks=[Rows()], logger=[CSVLogger(name) for name in os.environ['LOGS'].split()], **json.loads(os.environ['MORE'])"
    (folder / "train.py").write_text(ROWS + text.replace(said, f"model_kwargs={SMALL}, {more}"))
    return folder


def start(folder, name, *arguments, launcher=(sys.executable,), stop=-1, logs="", **more):
    """Run the script; returns the model that it saved, and the batches of each epoch and process."""
    command = [*launcher, "train.py", "cells.h5ad", name, "--accelerator", "cpu", *map(str, arguments)]
    environment = ENVIRONMENT | {"ROWS": name, "MORE": json.dumps(more), "STOP": str(stop), "LOGS": logs}
    result = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    if stop >= 0:
        assert result.returncode == 1
        assert "stop here" in result.stderr
        return None
    assert result.returncode == 0, result.stderr[-3000:]
    assert result.stdout.count("validation_loss") == 1  # of one process
    rows = [json.loads(path.read_text()) for path in sorted(folder.glob(f"{name}.*.json"))]
    return Polygene.load(folder / name, adata=False), rows


@pytest.fixture(scope="module")
def alone(folder):
    """The model of one process. Of 56 cells in batches of 11 the last has one: too few for two processes."""
    return start(folder, "alone", "--batch-size", 11, "--max-epochs", 2)


def assert_same(model, other):
    for name, value in model.module.state_dict().items():
        torch.testing.assert_close(other.module.state_dict()[name], value, rtol=0, atol=1e-5, msg=name)
    assert set(model.history_) == set(other.history_)
    for name, table in model.history_.items():
        np.testing.assert_allclose(other.history_[name].astype(float), table.astype(float), rtol=1e-4, err_msg=name)


def assert_all_seen_once(rows, train_indices):
    """By the processes together, in each epoch."""
    assert len(rows) == 2
    for epoch in rows[0]:
        seen = [row for of_process in rows for batch in of_process[epoch] for row in batch]
        assert sorted(seen) == sorted(train_indices)


@pytest.mark.parametrize("strategy", ["ddp", "ddp_spawn"])
def test_two_processes_train_as_one(strategy, folder, alone):
    """Weights, losses and scores; after spawning the calling process has them."""
    arguments = ("--batch-size", 11, "--max-epochs", 2, "--devices", 2, "--strategy", strategy)
    model, rows = start(folder, strategy, *arguments, logs="logs" if strategy == "ddp_spawn" else "")
    assert_same(alone[0], model)
    assert len(model.train_indices) == 56
    assert_all_seen_once(rows, model.train_indices)
    assert [] in rows[1]["0"]  # the batch without a cell
    assert not (folder / "lightning_logs").exists()


def test_torchrun_and_steps_of_several_batches(folder):
    """Denominators are summed over processes and batches."""
    whole, _ = start(folder, "whole", "--batch-size", 22, "--max-epochs", 2)
    launcher = (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-addr", "127.0.0.1")
    arguments = ("--batch-size", 11, "--accumulate", 2, "--max-epochs", 2, "--devices", 2)
    model, rows = start(folder, "torchrun", *arguments, launcher=launcher)
    assert_same(whole, model)
    assert len(model.train_indices) == 56
    assert_all_seen_once(rows, model.train_indices)


def test_two_processes_go_on_where_they_were_interrupted(folder, alone):
    more = {"checkpoints": {"folder": "interrupted", "every_steps": 2, "resume": True}}
    text = (folder / "train.py").read_text()
    arguments = ("--batch-size", 11, "--max-epochs", 2, "--devices", 2)
    (folder / "train.py").write_text(text.replace("        checkpoints=", "        # checkpoints="))
    start(folder, "stopped", *arguments, stop=9, **more)
    model, rows = start(folder, "resumed", *arguments, **more)
    (folder / "train.py").write_text(text)
    assert [len(of_process["1"]) for of_process in rows] == [4, 4]  # of six steps, from the third on
    assert_same(alone[0], model)


def test_processes_stop_early_together_and_go_on_from_a_checkpoint(folder):
    """Without learning, training stops after the patience of 2."""
    more = {"plan_kwargs": {"lr": 0.0}, "early_stopping_patience": 2}
    arguments = ("--batch-size", 20, "--max-epochs", 9, "--devices", 2, "--early-stopping", "--checkpoints", "run")
    first, rows = start(folder, "early", *arguments, **more)
    assert [len(of_process) for of_process in rows] == [3, 3]
    assert len(first.history_["validation_loss"]) == 3
    again, _ = start(folder, "again", *arguments, **more)
    assert_same(first, again)
