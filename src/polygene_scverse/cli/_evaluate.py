"""`polygene evaluate`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from polygene_scverse._files import replace_file
from polygene_scverse.cli._cells import check_folder, find_files, read_cells, split_list
from polygene_scverse.cli._errors import UserError
from polygene_scverse.cli._loggers import make_logger
from polygene_scverse.cli._models import read_model
from polygene_scverse.cli._settings import EvaluateSettings, needed
from polygene_scverse.cli._train_arguments import without_none

if TYPE_CHECKING:
    import pandas as pd

    from polygene_scverse.model import Polygene, TokenCounts


def evaluate(s: EvaluateSettings) -> None:
    """Score the hidden tokens of all files together, and write tables and figures."""
    _, output = needed(s, "model", "output")
    files = find_files(s.paths, s.data)
    masking = _masking(s)
    model = read_model(s, files)
    from polygene_scverse.model import ORIGINAL_MASK

    names = split_list(s.phenotypes)
    for flag, found in (("--phenotypes", names), ("--given", split_list(s.given))):
        if unknown := [name for name in found or [] if name not in model.layout.phenotype_names]:
            raise UserError(
                f"{flag}: {unknown} are not phenotypes of the model, which has {list(model.layout.phenotype_names)}. "
                "Pass some of these."
            )
    check_folder(output, overwrite=bool(s.overwrite))
    if model.mask_ == ORIGINAL_MASK:
        typer.echo(
            "The weights are from the original, whose attention mask reveals which hidden genes are expressed.",
            err=True,
        )
    said_of_cells = {"balance": s.balance, "seed": s.seed, "batch_size": s.batch_size}
    shown = {"given": split_list(s.given), "hidden_share": s.hidden_share}
    counts = score_files(model, files, masking=masking, **said_of_cells, **shown, **s.gene_names)
    scores = write_scores(counts, model.mask_, output, figures=s.figures is not False, phenotypes=names)
    if s.logger is not None:
        logger = make_logger(s.logger, s.log_dir or output / "logs", s.project or "polygene")
        logger.log_metrics(_flat(scores), step=0)
        logger.finalize("success")
    typer.echo(
        "Scores of hidden tokens: some of a cell's genes and all phenotypes are hidden, as in training. To score "
        "the predictions of polygene predict, call pgs.tl.evaluate(adata, model=...) in Python."
    )
    typer.echo(scores.to_string(index=False, float_format="{:.4f}".format))
    typer.echo(f"Scores and confusion matrices are in {output}.")


def score_files(model: Polygene, files: Sequence[Path], **arguments: Any) -> TokenCounts:
    """Counts of hidden tokens summed over files; expression stays on disk if possible."""
    from polygene_scverse.model import TokenCounts

    arguments = without_none(arguments)
    return TokenCounts.total([model.count_hidden_tokens(read_cells(path, backed=True), **arguments) for path in files])


def write_scores(
    counts: TokenCounts, mask: str, folder: Path, *, figures: bool, phenotypes: Sequence[str] | None = None
) -> pd.DataFrame:
    """Write ``scores.csv`` and the confusion matrices of genes and phenotypes, and return the scores.

    There is no matrix of a phenotype that was hidden in no cell, for example because it was given.
    """
    from polygene_scverse.tl._score_tokens import note_of, score_table

    folder.mkdir(parents=True, exist_ok=True)
    scores = score_table(counts)
    with replace_file(folder / "scores.csv") as part:
        scores.to_csv(part, index=False)
    names = list(counts.phenotypes) if phenotypes is None else list(phenotypes)
    plain, note = _plain(names), note_of(counts, scores, mask)
    for name in (None, *names):
        file = folder / ("confusion_genes" if name is None else f"confusion_phenotype_{plain[name]}")
        matrix = counts.genes if name is None else counts.phenotypes[name]
        if not matrix.to_numpy().any():
            continue
        with replace_file(file.with_name(f"{file.name}.csv")) as part:
            matrix.to_csv(part)
        if figures:
            _draw(note, name, file.with_name(f"{file.name}.png"))
    return scores


def _draw(note: dict[str, Any], name: str | None, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from anndata import AnnData

    from polygene_scverse import pl
    from polygene_scverse._constants import TOKENS, UNS

    pl.token_confusion(AnnData(uns={UNS: {TOKENS: note}}), name, show=False, save=path.absolute())


def _masking(s: EvaluateSettings) -> dict[str, Any] | str | None:
    """Masking rates: those of training, of the original, or as given by options."""
    from dataclasses import asdict

    from polygene_scverse.data.feed._rates import ORIGINAL_RATES, resolve_rates

    if s.mask_genes is None and s.mask_phenotypes is None:
        return s.masking
    resolve_rates(s.masking)
    values = {"expressed": s.mask_genes, "not_expressed": s.mask_genes, "hide_each": s.mask_phenotypes}
    return asdict(ORIGINAL_RATES) | without_none(values)


def _plain(names: Sequence[str]) -> dict[str, str]:
    """Convert names to unique parts of file names; a number distinguishes equal ones."""
    found: dict[str, str] = {}
    for name in names:
        plain, n = re.sub(r"[^\w.-]+", "_", name), 1
        while (text := plain if n == 1 else f"{plain}_{n}") in found.values():
            n += 1
        found[name] = text
    return found


def _flat(scores: pd.DataFrame) -> dict[str, float]:
    """Flatten the table to one number per score for loggers."""
    kinds = ("accuracy", "precision", "recall", "f1", "nll")
    return {
        "_".join(filter(None, (row["tokens"], row["of"].replace(",", "").replace(" ", "_"), kind))): float(row[kind])
        for row in scores.to_dict("records")
        for kind in kinds
    }
