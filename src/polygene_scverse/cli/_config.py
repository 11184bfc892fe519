"""Settings from a config file."""

from __future__ import annotations

import difflib
import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer

SUFFIXES = (".yaml", ".yml", ".toml", ".json")


def read_config(path: Path, keys: Mapping[str, str]) -> dict[str, Any]:
    """Read settings.

    Parameters
    ----------
    path
        YAML, TOML or JSON file with one value per setting.
    keys
        Names of settings that are allowed in the file, and the field of each.

    Returns
    -------
    Value of each setting, without empty ones.

    Raises
    ------
    typer.BadParameter
        If the file does not exist or cannot be read, or if a name is unknown or repeated.
    """
    table = _parse(path)
    if not isinstance(table, dict):
        raise typer.BadParameter(
            f"{path} contains {type(table).__name__}, but a mapping of settings to values is needed."
        )
    values: dict[str, Any] = {}
    if unknown := [str(key) for key in table if key not in keys]:
        raise typer.BadParameter(f"{path}: {', '.join(_guess(key, keys) for key in unknown)}.")
    for key, value in table.items():
        if keys[key] in values:
            raise typer.BadParameter(f"{path}: {keys[key]} is set under two names. Set it once.")
        if value is not None:
            values[keys[key]] = _listed(value)
    return values


def _parse(path: Path) -> Any:
    if not path.is_file():
        raise typer.BadParameter(f"{path} does not exist.")
    if path.suffix not in SUFFIXES:
        raise typer.BadParameter(f"{path} must end with one of {', '.join(SUFFIXES)}.")
    text = path.read_text(encoding="utf-8")
    try:
        if path.suffix == ".toml":
            return tomllib.loads(text)
        if path.suffix == ".json":
            return json.loads(text)
        import yaml

        try:
            return yaml.safe_load(text) or {}
        except yaml.YAMLError as error:
            raise ValueError(str(error)) from error
    except ValueError as error:
        raise typer.BadParameter(f"{path} cannot be read: {error}") from error


def _listed(value: Any) -> Any:
    """Convert values inside a list to text, as on the command line."""
    return [str(item) for item in value] if isinstance(value, list) else value


def _guess(key: str, keys: Mapping[str, str]) -> str:
    close = difflib.get_close_matches(key, keys, n=1)
    return f"{key!r} is not a setting" + (f" (did you mean {close[0]!r}?)" if close else "")
