"""`polygene predict` and `polygene embed`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from polygene_scverse._files import replace_file
from polygene_scverse.cli._cells import find_files, plan_outputs, read_cells, split_list, write_cells
from polygene_scverse.cli._models import read_model
from polygene_scverse.cli._settings import (
    EmbedSettings,
    FilesSettings,
    FillSettings,
    NoveltySettings,
    PredictSettings,
    needed,
)
from polygene_scverse.cli._train_arguments import without_none

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

    from polygene_scverse.model import Polygene

TABLES = {".csv": ",", ".tsv": "\t"}


def predict(s: PredictSettings) -> None:
    """Predict the phenotypes of cells."""

    def run(adata: AnnData, model: Polygene) -> pd.DataFrame:
        from polygene_scverse import get, tl
        from polygene_scverse._constants import confidence_key, expected_key, prediction_key, set_key

        names = split_list(s.phenotypes) or list(model.layout.phenotype_names)
        arguments = {name: getattr(s, name) for name in ("balance", "coverage", "by_category", "min_confidence")}
        arguments |= {"given": split_list(s.given), "batch_size": s.batch_size, **s.gene_names}
        tl.predict_phenotype(adata, model=model, phenotypes=names, **without_none(arguments))
        columns = [key(name) for name in names for key in (prediction_key, confidence_key, expected_key)]
        table = adata.obs[[column for column in columns if column in adata.obs]]
        if s.coverage is None:
            return table
        sets = {name: get.prediction_sets(adata, name)["categories"].map("; ".join) for name in names}
        return table.assign(**{set_key(name): of_cells for name, of_cells in sets.items()})

    _each_file(s, run)


def embed(s: EmbedSettings) -> None:
    """Embed cells."""

    def run(adata: AnnData, model: Polygene) -> pd.DataFrame:
        import pandas as pd

        from polygene_scverse import tl
        from polygene_scverse._constants import EMBEDDING, EMBEDDING_UMAP

        arguments: dict[str, Any] = {"pooling": s.pooling, "umap": s.umap, "n_neighbors": s.n_neighbors, "seed": s.seed}
        arguments |= {"given": split_list(s.given), "batch_size": s.batch_size, **s.gene_names}
        tl.embed(adata, model=model, **without_none(arguments))
        parts = {"dim": adata.obsm[EMBEDDING]}
        if s.umap is not False and EMBEDDING_UMAP in adata.obsm:
            parts["umap"] = adata.obsm[EMBEDDING_UMAP]
        columns = {f"{name}_{i}": part[:, i] for name, part in parts.items() for i in range(part.shape[1])}
        return pd.DataFrame(columns, index=adata.obs_names)

    _each_file(s, run)


def novelty(s: NoveltySettings) -> None:
    """Score how novel each cell is."""

    def run(adata: AnnData, model: Polygene) -> pd.DataFrame:
        from polygene_scverse import tl
        from polygene_scverse._constants import NOVELTY

        arguments = {"phenotype": s.phenotype, "batch_size": s.batch_size, **s.gene_names}
        tl.novelty(adata, model=model, **without_none(arguments))
        return adata.obs[[NOVELTY]]

    _each_file(s, run)


def fill(s: FillSettings) -> None:
    """Fill missing values of recorded phenotypes."""

    def run(adata: AnnData, model: Polygene) -> pd.DataFrame:
        from polygene_scverse import tl
        from polygene_scverse._constants import filled_key, filled_probability_key

        names = split_list(s.phenotypes) or list(model.layout.phenotype_names)
        arguments = {"phenotypes": names, "given": split_list(s.given), "balance": s.balance}
        arguments |= {"batch_size": s.batch_size, **s.gene_names}
        tl.fill_phenotype(adata, model=model, **without_none(arguments))
        return adata.obs[[key(name) for name in names for key in (filled_key, filled_probability_key)]]

    _each_file(s, run)


def _each_file(s: FilesSettings, run: Any) -> None:
    """Read each file, and write its table of results, or the cells with the results, under another name."""
    _, output = needed(s, "model", "output")
    files = find_files(s.paths, s.data)
    targets = plan_outputs(files, output, s.format, overwrite=bool(s.overwrite))
    model = read_model(s, files)
    for source, target in zip(files, targets, strict=True):
        adata = read_cells(source, backed=True)
        table = run(adata, model)
        if target.suffix in TABLES:
            with replace_file(target) as part:
                table.to_csv(part, sep=TABLES[target.suffix], index_label="cell")
        else:
            write_cells(adata, source, target)
        typer.echo(f"{adata.n_obs:,} cells: {target}")
