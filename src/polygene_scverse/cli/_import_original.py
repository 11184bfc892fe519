"""`polygene import-original`."""

from __future__ import annotations

import typer

from polygene_scverse.cli._cells import check_folder, split_list
from polygene_scverse.cli._errors import UserError
from polygene_scverse.cli._settings import ImportSettings, needed


def import_original(s: ImportSettings) -> None:
    """Read a checkpoint and save it as a model."""
    folder, output = needed(s, "folder", "output")
    columns = dict(_pair(text) for text in split_list(s.columns) or [])
    check_folder(output, overwrite=bool(s.overwrite))
    from polygene_scverse.model import Polygene

    model = Polygene.from_original(
        folder,
        vocabulary=s.vocabulary,
        genes=s.genes,
        n_bins=s.n_bins,
        threshold=s.threshold,
        columns=columns or None,
        layer=s.layer,
        use_raw=bool(s.use_raw),
    )
    model.save(output, overwrite=True)
    typer.echo(f"{len(model.genes):,} genes in {model.layout.n_bins} bins; the model is in {output}.")


def _pair(text: str) -> tuple[str, str]:
    name, equals, column = text.partition("=")
    if not (name and equals and column):
        raise UserError(f"--columns: found {text!r}. Write a phenotype and its obs column as age=years.")
    return name, column
