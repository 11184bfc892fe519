"""Progress bars for work that takes more than a few seconds."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

DELAY: Final = 3.0
"""Seconds before a bar is shown."""
_HIDDEN: ContextVar[bool] = ContextVar("hidden", default=False)


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show a bar with the estimated remaining time if the work takes longer than `DELAY`; it is removed at the end.

    It is written to stderr, and only to a terminal or a notebook. Within another bar nothing is shown.

    Parameters
    ----------
    what
        What is counted, for instance ``"cells"``.
    total
        Their number.

    Yields
    ------
    Function to call with the number that was completed since the last call.
    """
    if _HIDDEN.get() or not _can_show(console := Console(stderr=True)):
        yield lambda n: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    bar = Progress(*columns, TimeRemainingColumn(), console=console, transient=True, refresh_per_second=4)
    task, started = bar.add_task(what, total=total), time.monotonic()

    def advance(n: int) -> None:
        bar.update(task, advance=n)
        if not bar.live.is_started and time.monotonic() - started > DELAY and not bar.finished:
            bar.start()

    with hidden():
        try:
            yield advance
        finally:
            if bar.live.is_started:
                bar.stop()


@contextmanager
def hidden(is_hidden: bool = True) -> Iterator[None]:
    """Show no bars of `progress`, if `is_hidden`."""
    token = _HIDDEN.set(is_hidden or _HIDDEN.get())
    try:
        yield
    finally:
        _HIDDEN.reset(token)


def _can_show(console: Console) -> bool:
    """Whether output can be replaced; in a notebook, rich needs ipywidgets to do so."""
    if console.is_jupyter:
        return importlib.util.find_spec("ipywidgets") is not None
    return console.is_terminal
