"""Loggers are quiet for a while."""

import logging

import pytest

from polygene_scverse._quiet import quiet

NAMES = ("polygene_test_a", "polygene_test_b")


@pytest.fixture
def loggers():
    loggers = [logging.getLogger(name) for name in NAMES]
    for logger, level in zip(loggers, (logging.DEBUG, logging.ERROR), strict=True):
        logger.setLevel(level)
    return loggers


def test_nothing_below_a_warning_is_said(loggers, caplog):
    with quiet(*NAMES):
        loggers[0].info("remark")
        loggers[0].warning("trouble")
    loggers[0].info("again")
    assert [record.message for record in caplog.records] == ["trouble", "again"]


def test_levels_are_given_back(loggers):
    with pytest.raises(KeyError, match="inside"), quiet(*NAMES):
        raise KeyError("inside")
    assert [logger.level for logger in loggers] == [logging.DEBUG, logging.ERROR]


def test_a_logger_that_is_not_there_yet(caplog):
    with quiet("polygene_test_new"), caplog.at_level(logging.INFO):
        logging.getLogger("polygene_test_new").info("remark")
    assert not caplog.records
    assert logging.getLogger("polygene_test_new").level == logging.NOTSET
