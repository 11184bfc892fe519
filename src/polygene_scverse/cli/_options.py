"""A command from a table: the fields of a dataclass are its options, and the keys of its config file."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

import typer

from polygene_scverse.cli._config import read_config
from polygene_scverse.cli._errors import exits

Settings = TypeVar("Settings")


@dataclass(frozen=True)
class Option:
    """An option of the command line.

    Parameters
    ----------
    text
        What it does.
    names
        Its names: ours, perhaps a letter, then those of the original, which are understood and named in the text.
    panel
        Where it stands in the help.
    """

    text: str
    names: tuple[str, ...]
    panel: str | None = None

    @property
    def ours(self) -> list[str]:
        """Names that the help shows."""
        return [name for name in self.names if name not in self.others]

    @property
    def others(self) -> list[str]:
        """Other long names."""
        return [name for name in self.names if name.startswith("--")][1:]

    def annotations(self, field: str, kind: Any) -> dict[str, Any]:
        """Parameters of a command: one for our names, and a hidden one for each other."""
        text = " ".join([self.text, *(f"Also {name}." for name in self.others)])
        shown = typer.Option(*self.ours, help=text, rich_help_panel=self.panel, show_default=False)
        hidden = {other_key(field, i): typer.Option(name, hidden=True) for i, name in enumerate(self.others)}
        return {key: Annotated[kind, info] for key, info in {field: shown, **hidden}.items()}


def option(text: str, *names: str, panel: str | None = None) -> Option:
    """An option by what it does and its names."""
    return Option(text, names, panel)


def other_key(field: str, number: int) -> str:
    """Parameter that another name of a field is read into."""
    return f"{field}__{number}"


def add_command(
    app: typer.Typer,
    name: str,
    settings: type[Settings],
    run: Callable[[Settings], None],
    *,
    ignored: Sequence[str] = (),
) -> None:
    """Add a command whose options are the fields of a dataclass.

    Every field has the default None, "not said". A config file gives the values that the command line does not.

    Parameters
    ----------
    app
        The application.
    name
        Name of the command.
    settings
        Dataclass; each field is annotated with its `typer` option or argument. Its docstring is the help text.
    run
        Called with the settings.
    ignored
        Options of the original that mean nothing here: taken without a word in the help, and named in a warning.
    """
    unused = {flag.lstrip("-"): flag for flag in ignored}
    annotations = {k: a for name, hint in hints_of(settings).items() for k, a in parameters_of(name, hint).items()}
    annotations |= {key: Annotated[str | None, typer.Option(flag, hidden=True)] for key, flag in unused.items()}
    keys = config_keys(settings) | {key: key for key in unused}

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
        with exits(debug=values.pop("debug")):
            values.pop("config")
            needless = [flag for key, flag in unused.items() if values.pop(key) is not None]
            if needless:
                typer.echo(f"Warning: not needed, because the saved model knows: {', '.join(needless)}.", err=True)
            run(settings(**merged(values)))

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


def hints_of(settings: type) -> dict[str, Any]:
    """Annotation of each field."""
    hints = get_type_hints(settings, include_extras=True)
    return {field.name: hints[field.name] for field in fields(settings)}


def parameters_of(name: str, hint: Any) -> dict[str, Any]:
    """Parameters of a command for one field."""
    kind, info = get_args(hint)[:2]
    return info.annotations(name, kind) if isinstance(info, Option) else {name: hint}


def merged(values: Mapping[str, Any]) -> dict[str, Any]:
    """One value for each field: what was given under another name goes before, as it cannot come from a file."""
    found = {key: value for key, value in values.items() if "__" not in key}
    found |= {key.partition("__")[0]: v for key, v in values.items() if "__" in key and v not in (None, [])}
    return {key: None if value == [] else value for key, value in found.items()}


def takes_many(annotation: Any) -> bool:
    """Whether a field is a list of values."""
    kind = get_args(annotation)[0]
    return any(get_origin(part) is list for part in (kind, *get_args(kind)))


def config_keys(settings: type) -> dict[str, str]:
    """Every name that a setting has in a config file, and the field it stands for."""
    keys: dict[str, str] = {}
    for field, hint in hints_of(settings).items():
        info = get_args(hint)[1]
        names = [name.partition("/")[0].lstrip("-") for name in getattr(info, "names", ()) if name.startswith("--")]
        keys |= dict.fromkeys([field, *names, *(name.replace("-", "_") for name in names)], field)
    return keys
