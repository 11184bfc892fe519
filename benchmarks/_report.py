"""A table on the screen and in a file, with the machine it was made on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from _machine import describe
from rich.console import Console
from rich.table import Table

_WIDTH = 150  # columns of the screen that a table needs; a narrower one wraps lines


def cell_text(value: Any) -> str:
    """Three figures, more for large numbers; a dash for NaN."""
    if not isinstance(value, float):
        return str(value)
    return "–" if np.isnan(value) else f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def report(
    title: str, columns: Sequence[str], rows: Sequence[Mapping[str, Any]], command: str, output: Path | None
) -> None:
    """Print the rows and write them, if asked to, as markdown, with the command and the machine.

    Parameters
    ----------
    title
        Title of the printed table.
    columns
        Names of the columns, in order.
    rows
        Values by column; an absent one is a dash.
    command
        The command that made them.
    output
        The markdown file; None writes none.
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
