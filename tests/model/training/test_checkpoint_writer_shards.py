"""A training on files goes on where it was interrupted, within a buffer or later."""

import lightning.pytorch as pl
import pytest
import torch

import polygene_scverse as pgs
from polygene_scverse.datasets import simulate

SMALL = {"n_hidden": 16, "n_layers": 1, "n_heads": 2, "n_intermediate": 16}


class Rows(pl.Callback):
    """Cells of each batch; stops before a step."""

    def __init__(self, stop=None):
        self.stop, self.rows = stop, []

    def on_train_batch_start(self, trainer, plan, batch, batch_idx):
        if trainer.global_step == self.stop:
            raise RuntimeError("stop")
        self.rows.append(batch["rows"].tolist())


@pytest.fixture
def files(tmp_path):
    adata = simulate(90, 40)
    for i in range(3):
        adata[30 * i : 30 * i + 30].copy().write_h5ad(tmp_path / f"shard_{i}.h5ad")
    return str(tmp_path / "shard_{0..2}.h5ad")


def train(files, stop=None, **kwargs):
    seen = Rows(stop)
    quiet = {"phenotypes": ["cell_type", "sex"], "max_epochs": 2, "verbose": False, "model_kwargs": SMALL}
    model = pgs.tl.train(files, callbacks=[seen], batch_size=8, **quiet, **kwargs)
    return model, seen.rows


@pytest.mark.parametrize("buffer_cells", [32, 1000], ids=["three buffers", "one buffer"])
def test_it_resumes_where_the_checkpoint_was_saved(files, tmp_path, buffer_cells):
    resumable = {"checkpoints": {"folder": tmp_path / "run", "every_steps": 3, "resume": True}}
    whole, rows = train(files, buffer_cells=buffer_cells)
    with pytest.raises(RuntimeError, match="stop"):
        train(files, stop=17, buffer_cells=buffer_cells, **resumable)
    model, after = train(files, buffer_cells=buffer_cells, **resumable)
    assert len(rows) == 22  # of 81 cells
    assert after == rows[15:]
    for name, value in whole.module.state_dict().items():
        torch.testing.assert_close(model.module.state_dict()[name], value, rtol=0, atol=0, msg=name)


def test_steps_of_several_batches_have_the_same_cells(files):
    _, whole = train(files, buffer_cells=32)
    seen = Rows()
    quiet = {"phenotypes": ["cell_type", "sex"], "max_epochs": 2, "verbose": False, "model_kwargs": SMALL}
    pgs.tl.train(files, callbacks=[seen], batch_size=4, accumulate_grad_batches=2, buffer_cells=32, **quiet)
    for i, rows in enumerate(whole):
        assert sorted(seen.rows[2 * i] + seen.rows[2 * i + 1]) == sorted(rows)
