"""`polygene check`."""

from __future__ import annotations

import typer

from polygene_scverse.cli._cells import find_files, read_cells
from polygene_scverse.cli._models import read_model
from polygene_scverse.cli._settings import CheckSettings


def check(s: CheckSettings) -> None:
    """Print how well each file fits a model, in ten lines."""
    files = find_files(s.paths, s.data)
    model = read_model(s, files)
    from polygene_scverse import tl

    for path in files:
        if len(files) > 1:
            typer.echo(f"{path}:")
        found = tl.check(read_cells(path, backed=True), model=model, **s.gene_names)
        for name, words in found.items():
            typer.echo(f"{f'{name}:':<20}{words}")
