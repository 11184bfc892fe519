"""Exit codes: 0 success, 1 unexpected error, 2 user error, 130 and 143 stopped by a signal."""

from __future__ import annotations

import re
import traceback
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import typer

UNEXPECTED, USER, INTERRUPTED, TERMINATED = 1, 2, 130, 143
PACKAGE_FOLDER = Path(__file__).parents[1]
OF_USERS = (ValueError, KeyError, TypeError, ImportError, RuntimeError)


class UserError(Exception):
    """Error that the user can fix; its text says how."""


@contextmanager
def exits(*, debug: bool = False, options: Mapping[str, str] | None = None) -> Iterator[None]:
    """Print errors and warnings as single lines on standard error, and exit with a code after an error.

    Parameters
    ----------
    debug
        Whether to re-raise errors to show the traceback.
    options
        Command line option of each Python argument.

    Raises
    ------
    typer.Exit
        With the exit code.
    """
    with warnings.catch_warnings():
        warnings.showwarning = partial(_say_warning, options or {})
        try:
            yield
        except typer.Exit:
            raise
        except KeyboardInterrupt as stop:
            _say("Interrupted.", stop)
            raise typer.Exit(INTERRUPTED) from None
        except SystemExit as stop:  # raised by Lightning on SIGTERM, with the exit code of success
            _say("Stopped by a signal.", stop)
            raise typer.Exit(TERMINATED) from None
        except Exception as error:
            if debug:
                raise
            if is_of_user(error):
                _say(f"Error: {with_options(text_of(error), options or {})}", error)
                raise typer.Exit(USER) from None
            _say(f"Unexpected {type(error).__name__}: {text_of(error)}", error)
            typer.echo("Run the command again with --debug to see where it happened.", err=True)
            raise typer.Exit(UNEXPECTED) from None


def is_of_user(error: BaseException) -> bool:
    """Whether an error concerns the user's input: it was raised by a check of this package or by the file system."""
    if isinstance(error, (UserError, OSError)):
        return True
    frames = traceback.extract_tb(error.__traceback__)
    ours = bool(frames) and Path(frames[-1].filename).is_relative_to(PACKAGE_FOLDER)
    return isinstance(error, OF_USERS) and ours


def text_of(error: BaseException) -> str:
    """Text of an error; `str` of a KeyError would add quotes."""
    return str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)


def with_options(text: str, options: Mapping[str, str]) -> str:
    """Replace the arguments in a Python error with the names of options: those at its start, and ``name=`` in its text.

    Calls such as ``pgs.tl.train(adata, group_key=...)`` stay as they are.
    """
    names = {"adata": "DATA", "dir_path": options.get("model", "--output"), **options}
    head, _, rest = text.partition(":")
    if re.fullmatch(r"`\w+`(, `\w+`)*", head):
        text = re.sub(r"`(\w+)`", lambda found: names.get(found[1], found[0]), head) + f":{rest}"

    def flag(found: re.Match[str]) -> str:
        name = names.get(found[1] or "", "")
        if not name.startswith("--"):
            return found[0]
        return f"--no-{name[2:]}" if found[2] == "False" else name

    return re.sub(r"\([^()]*\)|\b(\w+)=(True|False|)(?=[ ,.]|$)", flag, text)


def _say(text: str, error: BaseException) -> None:
    """Print a line for an error, and one for each of its notes."""
    for line in (text, *getattr(error, "__notes__", ())):
        typer.echo(line, err=True)


def _say_warning(
    options: Mapping[str, str], message: Warning | str, category: type[Warning], *_: Any, **__: Any
) -> None:
    typer.echo(f"Warning: {with_options(str(message), options)}", err=True)
