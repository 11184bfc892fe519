"""What is checked before a training with checkpoints begins."""

import shutil
from types import SimpleNamespace

import pytest
import torch

from polygene_scverse.model import Checkpoints

QUIET = {"max_epochs": 1, "enable_progress_bar": False}


class Code:
    def __reduce__(self):
        return print, ("code of the file was run",)


def test_the_argument_may_be_a_folder_a_mapping_or_the_settings(tmp_path):
    settings = Checkpoints(tmp_path)
    assert Checkpoints.of(None) is None
    assert Checkpoints.of(tmp_path) == Checkpoints.of({"folder": tmp_path}) == Checkpoints.of(settings) == settings
    assert Checkpoints.of(str(tmp_path)).path == tmp_path / "last.ckpt"


@pytest.mark.parametrize("name", ["every_epochs", "every_steps"])
def test_numbers_are_checked(name):
    with pytest.raises(ValueError, match=f"`checkpoints`: found {name}=0, but it must be at least 1"):
        Checkpoints("folder", **{name: 0})


def test_a_checkpoint_is_not_overwritten(trained, tmp_path):
    trained(checkpoints=tmp_path)
    before = (tmp_path / "last.ckpt").read_bytes()
    with pytest.raises(
        ValueError, match=r"last.ckpt is the checkpoint of a finished or interrupted training. Pass resume=True to"
    ):
        trained(checkpoints=tmp_path)
    assert (tmp_path / "last.ckpt").read_bytes() == before


def test_a_folder_that_cannot_be_made_is_refused_before_training(trained, tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(OSError, match=r"`checkpoints`: .*/file/run cannot be written to .* Pass a writable folder"):
        trained(checkpoints=tmp_path / "file" / "run")


def test_a_folder_that_cannot_be_written_to_is_refused_before_training(trained):
    with pytest.raises(OSError, match=r"`checkpoints`: /proc/self cannot be written to"):
        trained(checkpoints="/proc/self")


def test_a_full_disk_is_refused_before_training(model_of, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10_000_000))
    model = model_of()
    with pytest.raises(
        OSError, match=r"has 10 MB left, but two checkpoints of this training need about 34 MB. Make room"
    ):
        model.train(checkpoints=tmp_path, **QUIET)
    assert not model.is_trained_
    assert list(tmp_path.iterdir()) == []


def test_room_is_asked_for_that_a_checkpoint_takes(trained, tmp_path):
    model = trained(model_kwargs={"n_hidden": 256, "n_layers": 2, "n_intermediate": 1024}, checkpoints=tmp_path)
    size = (tmp_path / "last.ckpt").stat().st_size
    weights = sum(p.numel() * p.element_size() for p in model.module.parameters())
    assert size > 2e7
    assert 3 * weights < size < 3 * weights + 2**20


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"seed": 1, "split": None}, r"training cells: .*validation cells: .*seed: 0 then, 1 now"),
        ({"batch_size": 8}, "cells per step: 16 then, 8 now"),
        ({"max_epochs": 2}, "max_epochs: 1 then, 2 now"),
        ({"plan_kwargs": {"lr": 0.1}}, r"plan_kwargs: \{\} then, \{'lr': 0.1\} now"),
        ({"masking": {"expressed": 0.3}}, "masking: .*'expressed': 0.15.* then, .*'expressed': 0.3"),
        ({"model_kwargs": {"n_hidden": 8}}, "network: .*'n_hidden': 16.* then, .*'n_hidden': 8"),
        ({"model_kwargs": {"gene_decoder": False}}, "network: .*gene decoder True then, .*gene decoder False now"),
        ({"model_kwargs": {"genes": [f"gene_{i}" for i in range(39)]}}, "model: 40 genes, .* then, 39 genes"),
    ],
    ids=["seed", "batch size", "epochs", "plan", "masking", "network", "gene decoder", "genes"],
)
def test_another_training_is_refused(change, match, cells, trained, tmp_path):
    trained(checkpoints=tmp_path)
    with pytest.raises(ValueError, match=f"belongs to another training: .*{match}"):
        trained(cells(), checkpoints={"folder": tmp_path, "resume": True}, **change)


def test_other_data_are_refused(cells, trained, tmp_path):
    adata = cells()
    trained(adata, checkpoints=tmp_path)
    adata.X.data[0] += 5
    with pytest.raises(ValueError, match=r"belongs to another training: .*cells"):
        trained(adata, checkpoints={"folder": tmp_path, "resume": True})


def test_other_labels_are_refused(cells, trained, tmp_path):
    adata = cells()
    trained(adata, checkpoints=tmp_path)
    adata.obs["sex"] = adata.obs["sex"].to_numpy()[::-1]
    with pytest.raises(ValueError, match=r"belongs to another training: .*training cells: 54 cells .* then, 54 cells"):
        trained(adata, checkpoints={"folder": tmp_path, "resume": True})


@pytest.mark.parametrize("content", [b"half a file", {"a": 1}, {"polygene": Code()}], ids=["damaged", "other", "code"])
def test_a_foreign_file_is_refused_and_its_code_not_run(content, trained, tmp_path, capsys):
    path = tmp_path / "last.ckpt"
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    with pytest.raises(ValueError, match=r"last.ckpt was not written by a training of Polygene, is damaged, or holds"):
        trained(checkpoints={"folder": tmp_path, "resume": True})
    assert capsys.readouterr().out == ""
