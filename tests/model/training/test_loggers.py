"""Loggers: the history is the same with any of them, and nothing is written or contacted unless asked."""

import pandas as pd
import pytest
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

from polygene_scverse.model.training import _loggers
from polygene_scverse.model.training._loggers import HistoryLogger, hand_over, make_logger, with_history


def frames(model):
    return {name: table.astype(float) for name, table in model.history_.items()}


def check_same_history(model, other):
    found, expected = frames(model), frames(other)
    assert set(found) == set(expected)
    for name, table in expected.items():
        pd.testing.assert_frame_equal(found[name], table, check_index_type=False)


@pytest.fixture
def plain(trained):
    """A model that was trained without a logger."""
    return trained(max_epochs=3)


def test_csv(plain, trained, tmp_path):
    model = trained(max_epochs=3, logger=CSVLogger(tmp_path, name="logs"))
    check_same_history(model, plain)
    log = pd.read_csv(tmp_path / "logs" / "version_0" / "metrics.csv").groupby("epoch").first()
    assert list(log.index) == [0, 1, 2]
    for name, table in frames(model).items():
        assert log[name].tolist() == pytest.approx(table[name].tolist(), rel=1e-4), name


def test_tensorboard(plain, trained, tmp_path):
    reader = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="tensorboard is not installed"
    )
    model = trained(max_epochs=3, logger=TensorBoardLogger(tmp_path, name="logs"))
    check_same_history(model, plain)
    log = reader.EventAccumulator(str(tmp_path / "logs" / "version_0"))
    log.Reload()
    for name, table in frames(model).items():
        values = [event.value for event in log.Scalars(name)]
        assert values == pytest.approx(table[name].tolist(), rel=1e-4), name


def test_several_and_by_name(plain, trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = trained(max_epochs=3, logger=["csv", CSVLogger("other", name="mine")])
    check_same_history(model, plain)
    tables = [pd.read_csv(tmp_path / name / "version_0" / "metrics.csv") for name in ("logs/polygene", "other/mine")]
    pd.testing.assert_frame_equal(*tables)


def test_a_longer_training_prolongs_the_history(trained, tmp_path):
    models = [trained(), trained(logger=CSVLogger(tmp_path))]
    models[0].train(max_epochs=2, enable_progress_bar=False)
    models[1].train(max_epochs=2, enable_progress_bar=False, logger=CSVLogger(tmp_path))
    assert len(models[0].history_["train_loss"]) == 3
    check_same_history(models[1], models[0])


@pytest.mark.parametrize("logger", [None, False], ids=str)
def test_nothing_is_written_unless_asked(trained, tmp_path, monkeypatch, logger):
    monkeypatch.chdir(tmp_path)
    model = trained(logger=logger)
    assert len(model.history_["train_loss"]) == 1
    assert not list(tmp_path.iterdir())


def test_the_history_stands_where_scvi_tools_looks_for_it(tmp_path):
    other = CSVLogger(tmp_path)
    first, second = with_history(other)
    assert isinstance(first, HistoryLogger)
    assert second is other
    assert with_history(None) is None


def test_history_by_epoch_or_step_leaves_the_metrics_alone():
    logger, metrics = HistoryLogger(), {"loss": 2.0, "epoch": 4}
    logger.log_metrics(metrics, 9)
    logger.log_metrics({"loss": 1.0, "epoch": 5}, 18)
    logger.log_metrics({"lr": 0.5}, 18)
    assert metrics == {"loss": 2.0, "epoch": 4}
    assert logger.history["loss"]["loss"].to_dict() == {4: 2.0, 5: 1.0}
    assert logger.history["lr"]["lr"].to_dict() == {18: 0.5}
    assert (logger.history["loss"].index.name, logger.history["lr"].index.name) == ("epoch", "step")


def test_the_history_is_handed_over_between_processes(tmp_path):
    other, silent = CSVLogger(tmp_path), HistoryLogger()
    loggers = with_history(other)
    hand_over(loggers, tmp_path)
    hand_over(None, tmp_path)
    loggers[0].log_metrics({"loss": 2.0, "epoch": 0})
    loggers[0].finalize("success")
    silent.finalize("success")
    pd.testing.assert_frame_equal(pd.read_pickle(loggers[0].history_path)["loss"], loggers[0].history["loss"])
    assert [path.name for path in tmp_path.iterdir()] == ["history.pkl"]


def test_weights_and_biases_is_made_with_project_and_folder(tmp_path, monkeypatch):
    made = {}
    monkeypatch.setattr(_loggers, "find_spec", lambda name: True)
    monkeypatch.setattr(_loggers, "WandbLogger", lambda **kwargs: made.update(kwargs))
    make_logger("wandb", tmp_path / "logs", "mine")
    assert made == {"project": "mine", "save_dir": str(tmp_path / "logs")}
    assert (tmp_path / "logs").is_dir()


@pytest.mark.parametrize("name", ["wandb", "tensorboard"])
def test_a_package_that_is_missing_is_named(monkeypatch, name):
    monkeypatch.setattr(_loggers, "find_spec", lambda _: None)
    with pytest.raises(ImportError, match=rf"`logger`: '{name}' needs a package.*Run: pip install {name}$"):
        make_logger(name)


@pytest.mark.parametrize(
    ("logger", "match"),
    [
        ("mlflow", r"`logger`: found 'mlflow', but it must be one of \['csv'"),
        (True, "`logger`: found True, which names"),
    ],
    ids=["name", "true"],
)
def test_loggers_that_are_not(trained, logger, match):
    with pytest.raises(ValueError, match=match):
        trained(logger=logger)
