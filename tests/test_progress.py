"""Progress bars."""

import io

import pytest
from rich.console import Console

from polygene_scverse import _progress
from polygene_scverse._progress import hidden, progress


@pytest.fixture
def terminal(monkeypatch):
    """What is written to a terminal; bars are shown at once."""
    written = io.StringIO()
    monkeypatch.setattr(_progress, "DELAY", -1.0)
    monkeypatch.setattr(_progress, "Console", lambda **_: Console(file=written, force_terminal=True, width=100))
    return written


def test_a_bar_shows_how_much_is_completed_and_is_removed(terminal):
    with progress("cells", 20) as advance:
        advance(5)
        assert "cells" in terminal.getvalue()
        assert "5/20" in terminal.getvalue()
    assert terminal.getvalue().endswith("\x1b[1A\x1b[2K")  # the line above is erased


def test_short_work_shows_nothing(terminal, monkeypatch):
    monkeypatch.setattr(_progress, "DELAY", 60.0)
    with progress("cells", 20) as advance:
        advance(5)
    assert terminal.getvalue() == ""


def test_completed_work_shows_nothing(terminal):
    with progress("cells", 5) as advance:
        advance(5)
    assert terminal.getvalue() == ""


def test_within_a_bar_there_is_no_other(terminal):
    with progress("folds", 2) as advance:
        advance(1)
        with progress("cells", 20) as inner:
            inner(5)
    assert "folds" in terminal.getvalue()
    assert "cells" not in terminal.getvalue()


@pytest.mark.parametrize("is_hidden", [True, False])
def test_bars_can_be_hidden(terminal, is_hidden):
    with hidden(is_hidden), hidden(False), progress("cells", 20) as advance:
        advance(5)
    assert ("cells" in terminal.getvalue()) is not is_hidden


def fail_after(n):
    with progress("cells", 20) as advance:
        advance(n)
        raise KeyError


def test_a_bar_is_removed_after_an_error_and_the_next_is_shown(terminal):
    for n in (1, 2):
        with pytest.raises(KeyError):
            fail_after(n)
    assert "2/20" in terminal.getvalue()
    assert terminal.getvalue().endswith("\x1b[1A\x1b[2K")


def test_a_file_gets_nothing(monkeypatch):
    written = io.StringIO()
    monkeypatch.setattr(_progress, "DELAY", -1.0)
    monkeypatch.setattr(_progress, "Console", lambda **_: Console(file=written))
    with progress("cells", 20) as advance:
        advance(5)
    assert written.getvalue() == ""


@pytest.mark.parametrize("found", [None, "ipywidgets"])
def test_a_notebook_needs_ipywidgets(monkeypatch, found):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: found)
    assert _progress._can_show(Console(force_jupyter=True)) is (found is not None)
