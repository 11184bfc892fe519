"""How the trainer is set up."""

import logging
import warnings

import pytest
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy

from polygene_scverse.model.training._progress import ProgressBar
from polygene_scverse.model.training._trainer import is_distributed, quiet_lightning, trainer_defaults


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [("ddp", True), ("ddp_spawn", True), ("auto", False), (None, False), (DDPStrategy(), True)],
    ids=["ddp", "ddp_spawn", "auto", "none", "object"],
)
def test_strategies_of_several_processes(strategy, expected):
    assert is_distributed(strategy) is expected


def test_another_strategy_is_not_of_several_processes():
    assert not is_distributed(SingleDeviceStrategy("cpu"))


def test_the_user_has_the_last_word():
    kwargs = trainer_defaults({"gradient_clip_val": 0.5, "devices": 3}, validated=True)
    assert (kwargs["gradient_clip_val"], kwargs["devices"], kwargs["check_val_every_n_epoch"]) == (0.5, 3, 1)


def test_a_progress_bar_where_it_is_wanted():
    assert [type(c) for c in trainer_defaults({}, validated=True)["callbacks"]] == [ProgressBar]
    assert trainer_defaults({"enable_progress_bar": False}, validated=True)["callbacks"] == []


def test_nothing_stops_early_without_validation():
    with pytest.warns(UserWarning, match="`early_stopping`: it has no effect"):
        kwargs = trainer_defaults({"early_stopping": True}, validated=False)
    assert (kwargs["early_stopping"], kwargs["limit_val_batches"]) == (False, 0)


def test_several_processes_stop_early_by_the_same_rule():
    kwargs = {"early_stopping": True, "early_stopping_patience": 3, "enable_progress_bar": False, "strategy": "ddp"}
    (found,) = trainer_defaults(kwargs, validated=True)["callbacks"]
    assert isinstance(found, EarlyStopping)
    assert (found.monitor, found.patience, found.mode, found.min_delta) == ("validation_loss", 3, "min", 0.0)
    assert trainer_defaults({**kwargs, "strategy": "auto"}, validated=True)["callbacks"] == []


def fails_quietly(log):
    with quiet_lightning():
        assert log.level == logging.WARNING
        warnings.warn("The 'train_dataloader' does not have many workers which may be a bottleneck.", stacklevel=1)
        raise ZeroDivisionError("division by zero")


def test_remarks_of_libraries_are_not_shown_and_loggers_are_given_back():
    log = logging.getLogger("lightning.pytorch")
    level = log.level
    with pytest.raises(ZeroDivisionError, match="by zero"):
        fails_quietly(log)
    assert log.level == level


def test_other_warnings_are_shown():
    with pytest.warns(UserWarning, match="look out"), quiet_lightning():
        warnings.warn("look out", stacklevel=1)
