"""Loggers: the history is the same with any of them, and nothing is written or contacted unless asked."""

import pandas as pd
import pytest
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

from polygene_scverse.model.training._loggers import HistoryLogger, check_loggers


def frames(model):
    return {name: table.astype(float) for name, table in model.history_.items()}


def during(model):
    """What was logged; the scores of the finished model come after."""
    return {name: table for name, table in frames(model).items() if not name.endswith("_final")}


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
    for name, table in during(model).items():
        assert log[name].tolist() == pytest.approx(table[name].tolist(), rel=1e-4), name


def test_tensorboard(plain, trained, tmp_path):
    reader = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="tensorboard is not installed"
    )
    model = trained(max_epochs=3, logger=TensorBoardLogger(tmp_path, name="logs"))
    check_same_history(model, plain)
    log = reader.EventAccumulator(str(tmp_path / "logs" / "version_0"))
    log.Reload()
    for name, table in during(model).items():
        values = [event.value for event in log.Scalars(name)]
        assert values == pytest.approx(table[name].tolist(), rel=1e-4), name


def test_several(plain, trained, tmp_path):
    model = trained(max_epochs=3, logger=[CSVLogger(tmp_path, name=name) for name in ("a", "b")])
    check_same_history(model, plain)
    tables = [pd.read_csv(tmp_path / name / "version_0" / "metrics.csv") for name in ("a", "b")]
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


def test_the_history_stands_where_scvi_tools_looks_for_it(trained, tmp_path):
    other = CSVLogger(tmp_path)
    first, second = trained(logger=other).trainer.loggers
    assert isinstance(first, HistoryLogger)
    assert second is other


def test_the_argument_is_a_logger_several_or_none(tmp_path):
    a, b = CSVLogger(tmp_path), CSVLogger(tmp_path)
    assert check_loggers(a) == [a]
    assert check_loggers((a, b)) == [a, b]
    assert check_loggers(None) == check_loggers(False) == check_loggers([]) == []


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
    logger = HistoryLogger(tmp_path / "logs")
    logger.log_metrics({"loss": 2.0, "epoch": 0})
    logger.finalize("success")
    HistoryLogger().finalize("success")
    pd.testing.assert_frame_equal(pd.read_pickle(logger.history_path)["loss"], logger.history["loss"])
    assert [path.name for path in (tmp_path / "logs").iterdir()] == ["history.pkl"]


def test_the_history_is_written_into_a_folder_of_the_user(trained, tmp_path):
    model = trained(log_save_dir=tmp_path)
    pd.testing.assert_frame_equal(pd.read_pickle(tmp_path / "history.pkl")["train_loss"], model.history_["train_loss"])


@pytest.mark.parametrize("logger", ["csv", True, [3]], ids=str)
def test_what_is_no_logger_is_refused(trained, logger):
    with pytest.raises(
        ValueError, match=r"`logger`: found .*, which is not a logger. Pass a logger of Lightning, e.g. light"
    ):
        trained(logger=logger)
