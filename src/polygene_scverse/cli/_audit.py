"""`polygene audit`."""

from __future__ import annotations

import typer

from polygene_scverse._files import replace_file
from polygene_scverse.cli._cells import find_files, plan_outputs, read_cells, split_list
from polygene_scverse.cli._errors import UserError
from polygene_scverse.cli._predict import TABLES
from polygene_scverse.cli._settings import AuditSettings, needed
from polygene_scverse.cli._train_arguments import without_none


def audit(s: AuditSettings) -> None:
    """Find recorded phenotypes that the expression contradicts."""
    output, _ = needed(s, "output", "sample_key")  # the table has a row per sample
    files = find_files(s.paths)
    if len(files) > 1:
        raise UserError(
            f"DATA: found {len(files)} files, but an audit takes one. Concatenate them, or audit them separately."
        )
    if output.suffix not in TABLES:
        raise UserError(f"--output: found {output}, but the output is a table. End the name with .csv or .tsv.")
    (target,) = plan_outputs(files, output, None, overwrite=bool(s.overwrite))
    from polygene_scverse import tl

    names = ("sample_key", "group_key", "n_folds", "max_epochs", "model", "layer", "use_raw", "seed")
    arguments = {name: getattr(s, name) for name in names}
    arguments |= {"phenotypes": split_list(s.phenotypes), **s.gene_names}
    table = tl.audit(read_cells(files[0]), **without_none(arguments))
    with replace_file(target) as part:
        table.to_csv(part, sep=TABLES[target.suffix], index=False)
    typer.echo(f"{len(table):,} records: {target}")
