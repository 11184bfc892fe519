"""Loggers that are named on the command line."""

import pytest
from lightning.pytorch import loggers
from lightning.pytorch.loggers import CSVLogger

from polygene_scverse.cli import _loggers
from polygene_scverse.cli._loggers import make_logger


def test_a_logger_has_its_folder_and_name(tmp_path):
    logger = make_logger("csv", tmp_path / "logs", "mine")
    assert isinstance(logger, CSVLogger)
    assert logger.log_dir == str(tmp_path / "logs" / "mine" / "version_0")


def test_weights_and_biases_is_made_with_project_and_folder(tmp_path, monkeypatch):
    made = {}
    monkeypatch.setattr(_loggers, "find_spec", lambda name: True)
    monkeypatch.setattr(loggers, "WandbLogger", lambda **kwargs: made.update(kwargs))
    make_logger("wandb", tmp_path / "logs", "mine")
    assert made == {"project": "mine", "save_dir": str(tmp_path / "logs")}
    assert (tmp_path / "logs").is_dir()


@pytest.mark.parametrize("name", ["wandb", "tensorboard"])
def test_a_package_that_is_missing_is_named(tmp_path, monkeypatch, name):
    monkeypatch.setattr(_loggers, "find_spec", lambda _: None)
    with pytest.raises(ImportError, match=rf"`logger`: '{name}' needs a package.*Run: pip install {name}$"):
        make_logger(name, tmp_path, "mine")


def test_an_unknown_logger_is_refused(tmp_path):
    with pytest.raises(
        ValueError, match=r"`logger`: found 'mlflow', but it must be one of \['csv', 'tensorboard', 'wa"
    ):
        make_logger("mlflow", tmp_path, "mine")
