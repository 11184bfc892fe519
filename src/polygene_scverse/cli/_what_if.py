"""`polygene impute`, `counterfactual`, `perturb` and `generate`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import typer

from polygene_scverse._files import replace_file
from polygene_scverse.cli._cells import find_files, plan_outputs, read_cells, split_list, write_cells
from polygene_scverse.cli._errors import UserError
from polygene_scverse.cli._models import read_model
from polygene_scverse.cli._predict import TABLES
from polygene_scverse.cli._settings import (
    CounterfactualSettings,
    FilesSettings,
    GenerateSettings,
    ImputeSettings,
    PerturbSettings,
    needed,
)
from polygene_scverse.cli._train_arguments import without_none

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

    from polygene_scverse.model import Polygene

TOGETHER = "+"
"""Separator of genes that are perturbed together."""


def impute(s: ImputeSettings) -> None:
    """Denoise and impute expression."""

    def run(adata: AnnData, model: Polygene) -> AnnData:
        import anndata
        import pandas as pd

        from polygene_scverse import tl
        from polygene_scverse._constants import IMPUTED
        from polygene_scverse.tl._models import gene_names

        genes = split_list(s.only) or model.genes
        typer.echo(f"{adata.n_obs:,} cells x {len(genes):,} genes: {4e-9 * adata.n_obs * len(genes):.2f} GB", err=True)
        said = {"given": split_list(s.given), "keep": s.keep, "log": s.log, "seed": s.seed, "batch_size": s.batch_size}
        absent = tl.impute(adata, model=model, genes=genes, **without_none(said), **s.gene_names)
        tables = [] if absent is None else [absent.to_df()]
        if IMPUTED in adata.layers:
            own = gene_names(adata, model, **s.gene_names)
            layer = pd.DataFrame(adata.layers[IMPUTED], index=adata.obs_names, columns=own)
            tables.append(layer.loc[:, own.isin(genes)])
        x = pd.concat(tables, axis=1)[genes]
        return anndata.AnnData(x, obs=adata.obs.copy())

    _each_file(s, run, lambda result: result.to_df())


def counterfactual(s: CounterfactualSettings) -> None:
    """Predict expression with a phenotype set, or the shift of each gene."""
    needed(s, "set")
    phenotypes = _categories(s.set or [], "--set")

    def run(adata: AnnData, model: Polygene) -> AnnData:
        from polygene_scverse import tl

        said = {"genes": split_list(s.only), "keep": s.keep, "seed": s.seed, "batch_size": s.batch_size}
        return tl.counterfactual(adata, phenotypes, model=model, **without_none(said), **s.gene_names)

    def table(result: AnnData) -> pd.DataFrame:
        from polygene_scverse import get

        return get.counterfactual(result, groupby=s.groupby, group_key=s.group_key).set_index("gene")

    _each_file(s, run, table, of_table={"--groupby": s.groupby, "--group-key": s.group_key})


def perturb(s: PerturbSettings) -> None:
    """Predict the effect of perturbing genes."""
    needed(s, "perturb")
    genes = [tuple(name.split(TOGETHER)) if TOGETHER in name else name for name in split_list(s.perturb) or []]

    def run(adata: AnnData, model: Polygene) -> AnnData:
        from polygene_scverse import tl

        said = {"kind": s.kind, "responses": split_list(s.responses), "n_null": s.n_null, "seed": s.seed}
        said |= {"batch_size": s.batch_size, **s.gene_names}
        return tl.perturb(adata, genes, model=model, **without_none(said))

    def table(result: AnnData) -> pd.DataFrame:
        from polygene_scverse import get

        return get.perturb(result, **without_none({"outcome": s.outcome})).set_index("perturbation")

    _each_file(s, run, table, of_table={"--outcome": s.outcome})


def generate(s: GenerateSettings) -> None:
    """Generate cells with given phenotypes."""
    _, n_obs, output = needed(s, "model", "n_obs", "output")
    given = _categories(s.given or [], "--given")
    if output.suffix not in (".h5ad", ".zarr"):
        raise UserError(f"--output: found {output}, but the output is AnnData. End the name with .h5ad or .zarr.")
    (target,) = plan_outputs([Path("generated")], output, None, overwrite=bool(s.overwrite))
    model = read_model(s)
    from polygene_scverse import tl

    names = ("seed", "n_rounds", "temperature", "depth", "allow_unseen", "batch_size")
    said = without_none({name: getattr(s, name) for name in names})
    adata = tl.generate(given, n_obs=n_obs, model=model, **said)
    write_cells(adata, None, target)
    typer.echo(f"{adata.n_obs:,} cells: {target}")


def _each_file(
    s: FilesSettings,
    run: Callable[[AnnData, Polygene], AnnData],
    table: Callable[[AnnData], pd.DataFrame],
    *,
    of_table: Mapping[str, str | None] = MappingProxyType({}),
) -> None:
    """Read each file, and write the result: new cells, or a table, which alone depends on the options `of_table`."""
    _, output = needed(s, "model", "output")
    files = find_files(s.paths, s.data)
    targets = plan_outputs(files, output, s.format, overwrite=bool(s.overwrite))
    unused = [flag for flag, value in of_table.items() if value is not None]
    if unused and not any(target.suffix in TABLES for target in targets):
        raise UserError(
            f"{unused[0]}: it has no effect, because {targets[0].name} is not a table. Write .csv or .tsv, or leave it "
            "out."
        )
    model = read_model(s, files)
    for source, target in zip(files, targets, strict=True):
        adata = read_cells(source)
        result = run(adata, model)
        if target.suffix in TABLES:
            written = table(result)
            with replace_file(target) as part:
                written.to_csv(part, sep=TABLES[target.suffix], index_label=str(written.index.name or "cell"))
        else:
            write_cells(result, None, target)
        typer.echo(f"{adata.n_obs:,} cells: {target}")


def _categories(pairs: Sequence[str], flag: str) -> dict[str, str]:
    """Parse ``condition=stimulated`` to phenotype and category."""
    found: dict[str, str] = {}
    for pair in pairs:
        name, mark, category = pair.partition("=")
        if not (name and mark and category):
            raise UserError(f"{flag}: found {pair!r}. Write a phenotype and its category: condition=stimulated.")
        if name in found:
            raise UserError(f"{flag}: found {name} twice. Pass it once.")
        found[name] = category
    return found
