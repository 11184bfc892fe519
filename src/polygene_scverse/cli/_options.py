"""Commands defined by dataclasses, whose fields are the options and the keys of the config file."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Final, Protocol, TypeVar, get_args, get_origin, get_type_hints, runtime_checkable

import typer

from polygene_scverse.cli._config import read_config
from polygene_scverse.cli._errors import UserError, exits

Settings = TypeVar("Settings")


INFO: Final = "option"
"""Key of a field's metadata with its option or argument."""


@dataclass(frozen=True)
class Option:
    """An option of the command line, whose name is that of its field.

    Parameters
    ----------
    text
        Help text.
    names
        Other names: optionally a letter, then the names in the original, which are accepted and listed in the help
        text. A name with a slash has both names of a flag.
    panel
        Panel of the help in which it is listed.
    low, high
        Limits of a number, which are checked before the command runs.
    choices
        Words that are allowed; any by default.
    """

    text: str
    names: tuple[str, ...]
    panel: str | None = None
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()

    @property
    def others(self) -> list[str]:
        """Other long names."""
        return [name for name in self.names if name.startswith("--") and "/" not in name]

    def check(self, flag: str, value: Any) -> None:
        """Raise an error for a value that is not allowed; `flag` is the name of the option."""
        if self.choices and value not in self.choices:
            raise UserError(f"{flag}: found {value!r}, but it must be one of {', '.join(self.choices)}.")
        if (self.low is not None and not value >= self.low) or (self.high is not None and not value <= self.high):
            limits = f"at least {self.low}" if self.high is None else f"from {self.low} to {self.high}"
            raise UserError(f"{flag}: found {value}, but it must be {limits}.")

    def annotations(self, key: str, kind: Any) -> dict[str, Any]:
        """Parameters of a command: one for the names of this package, and a hidden one for each other name."""
        long = key.replace("_", "-")
        own = f"--{long}/--no-{long}" if bool in get_args(kind) else f"--{long}"
        letters = [name for name in self.names if name not in self.others]
        ours = letters if any("/" in name for name in letters) else [own, *letters]
        text = " ".join([self.text, *(f"Also {name}." for name in self.others)])
        shown = typer.Option(*ours, help=text, rich_help_panel=self.panel, show_default=False)
        hidden = {other_key(key, i): typer.Option(name, hidden=True) for i, name in enumerate(self.others)}
        return {name: Annotated[kind, info] for name, info in {key: shown, **hidden}.items()}


def option(text: str, *names: str, **arguments: Any) -> Any:
    """Create a field that is an option of the command line; arguments as in `Option`."""
    return field(default=None, metadata={INFO: Option(text, names, **arguments)})


def argument(text: str, metavar: str | None = None) -> Any:
    """Create a field that is an argument of the command line."""
    return field(default=None, metadata={INFO: typer.Argument(help=text, metavar=metavar, show_default=False)})


def other_key(field: str, number: int) -> str:
    """Name of the parameter for another name of a field."""
    return f"{field}__{number}"


@runtime_checkable
class Checked(Protocol):
    """Settings that are checked before a command runs."""

    def check(self) -> None:
        """Raise an error if a value is invalid."""


def option_name(settings: Any, name: str) -> str:
    """Option name of a field of a settings dataclass."""
    (entry,) = (entry for entry in fields(settings) if entry.name == name)
    info = entry.metadata[INFO]
    return f"--{name.replace('_', '-')}" if isinstance(info, Option) else info.metavar or name.upper()


def check_values(settings: Any) -> None:
    """Check the values of a settings dataclass that are given.

    Raises
    ------
    UserError
        If one is not allowed.
    """
    for entry in fields(settings):
        info, value = entry.metadata[INFO], getattr(settings, entry.name)
        if isinstance(info, Option) and value is not None:
            info.check(option_name(settings, entry.name), value)


def add_command(
    app: typer.Typer,
    name: str,
    settings: type[Settings],
    run: Callable[[Settings], None],
    *,
    ignored: Sequence[str] = (),
) -> None:
    """Add a command whose options are the fields of a dataclass.

    Every field defaults to None, which means "not given". A config file sets values that the command line does not.

    Parameters
    ----------
    app
        The application.
    name
        Name of the command.
    settings
        Dataclass whose fields are created by `option` or `argument`. Its docstring is the help text. ``ARGUMENTS`` has
        the options of Python arguments with other names, for errors.
    run
        Called with the settings.
    ignored
        Options of the original that have no effect here: hidden from the help, and reported in a warning.
    """
    unused = {flag.lstrip("-"): flag for flag in ignored}
    annotations = parameters_of(settings)
    annotations |= {key: Annotated[str | None, typer.Option(flag, hidden=True)] for key, flag in unused.items()}
    keys = config_keys(settings) | {key: key for key in unused}

    options = {entry.name: option_name(settings, entry.name) for entry in fields(settings)}  # type: ignore[arg-type]
    options |= getattr(settings, "ARGUMENTS", {})
    lists = {key for key, annotation in annotations.items() if takes_many(annotation)}

    def load(context: typer.Context, value: Path | None) -> Path | None:
        if value is not None:
            found = read_config(value, keys)
            context.default_map = {k: [v] if k in lists and not isinstance(v, list) else v for k, v in found.items()}
        return value

    annotations["config"] = Annotated[
        Path | None,
        typer.Option("--config", help="YAML, TOML or JSON file of settings.", callback=load, is_eager=True),
    ]
    annotations["debug"] = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]

    def command(**values: Any) -> None:
        with exits(debug=values.pop("debug"), options=options):
            values.pop("config")
            needless = [flag for key, flag in unused.items() if values.pop(key) is not None]
            if needless:
                typer.echo(f"Warning: ignored, as the saved model determines them: {', '.join(needless)}.", err=True)
            found = settings(**merged(values))
            check_values(found)
            if isinstance(found, Checked):
                found.check()
            run(found)

    parameters = [
        inspect.Parameter(
            key, inspect.Parameter.KEYWORD_ONLY, default=False if key == "debug" else None, annotation=annotation
        )
        for key, annotation in annotations.items()
    ]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = annotations
    command.__doc__ = settings.__doc__
    app.command(name)(command)


def parameters_of(settings: type) -> dict[str, Any]:
    """Parameters of a command with their annotations: one for each field, and one for each of its other names."""
    found: dict[str, Any] = {}
    hints = get_type_hints(settings)
    for entry in fields(settings):
        info, kind = entry.metadata[INFO], hints[entry.name]
        found |= info.annotations(entry.name, kind) if isinstance(info, Option) else {entry.name: Annotated[kind, info]}
    return found


def merged(values: Mapping[str, Any]) -> dict[str, Any]:
    """Merge values to one per field; values given under other names win, as they cannot come from a file."""
    found = {key: value for key, value in values.items() if "__" not in key}
    found |= {key.partition("__")[0]: v for key, v in values.items() if "__" in key and v not in (None, [])}
    return {key: None if value == [] else value for key, value in found.items()}


def takes_many(annotation: Any) -> bool:
    """Whether a field is a list of values."""
    kind = get_args(annotation)[0]
    return any(get_origin(part) is list for part in (kind, *get_args(kind)))


def config_keys(settings: type) -> dict[str, str]:
    """All names of each setting in a config file, and the corresponding field."""
    keys: dict[str, str] = {}
    for entry in fields(settings):
        others = [name.lstrip("-") for name in getattr(entry.metadata[INFO], "others", ())]
        names = [entry.name, entry.name.replace("_", "-"), *others, *(name.replace("-", "_") for name in others)]
        keys |= dict.fromkeys(names, entry.name)
    return keys
