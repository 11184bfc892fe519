"""Printing of a table, and writing it to a file with a description of the machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from _machine import describe
from rich.console import Console
from rich.table import Table

_WIDTH = 150  # minimum screen columns for a table; a narrower screen wraps lines


def cell_text(value: Any) -> str:
    """Format with three significant digits, more for large numbers; a dash for NaN."""
    if not isinstance(value, float):
        return str(value)
    return "–" if np.isnan(value) else f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def report(
    title: str, columns: Sequence[str], rows: Sequence[Mapping[str, Any]], command: str, output: Path | None
) -> None:
    """Print the rows and optionally write them as markdown, with the command and the machine.

    Parameters
    ----------
    title
        Title of the printed table.
    columns
        Names of the columns, in order.
    rows
        Values by column; a missing one is shown as a dash.
    command
        The command that produced the rows.
    output
        The markdown file; None to write no file.
    """
    texts = [[cell_text(row.get(column, float("nan"))) for column in columns] for row in rows]
    console = Console() if Console().width >= _WIDTH else Console(width=_WIDTH)
    table = Table(*columns, title=title)
    for text in texts:
        table.add_row(*text)
    console.print(table)
    if output is None:
        return
    lines = [f"Printed by `{command}` on this machine:", "", *(f"* {k}: {v}" for k, v in describe().items()), ""]
    lines += [f"| {' | '.join(text)} |" for text in [columns, ["---"] * len(columns), *texts]]
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text("\n".join(lines) + "\n", encoding="utf-8")
