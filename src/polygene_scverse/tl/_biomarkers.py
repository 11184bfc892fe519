"""Find genes associated with a phenotype in several contexts, or in one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from anndata import AnnData
from mudata import MuData

from polygene_scverse._constants import BIOMARKERS
from polygene_scverse._validate import check_choice, check_notes, shorten, warn, write_notes
from polygene_scverse.metrics._pooled_p import false_discovery_rate
from polygene_scverse.model import ContextMarkers, Polygene
from polygene_scverse.tl._models import cells_and_model


def biomarkers(
    adata: AnnData | MuData,
    phenotype: str | None = None,
    *,
    contexts: str,
    group_key: str | None = None,
    n_cells: int = 5,
    min_cells: int = 5,
    n_permutations: int = 100,
    model: Polygene | str | Path | None = None,
    gene_symbols: str | None = None,
    gene_ids: str | None = None,
    mod: str | None = None,
    seed: int = 0,
    batch_size: int = 128,
) -> None:
    """Rank the genes associated with a phenotype within each context, such as a disease in each cell type.

    Within each context, genes are ranked as in :func:`~polygene_scverse.tl.rank_genes`, by how much the model uses
    them. With `group_key`, differential expression between cells of a category and other cells is also tested, with
    donors rather than cells as replicates: within donors if at least five have both kinds of cells, otherwise between
    donors, with at least three on each side. Labels are permuted, and the null distribution is pooled over genes. The
    test concerns the expression, not the model.

    Parameters
    ----------
    adata
        Cells. Genes are matched by name.
    phenotype
        A phenotype of the model, recorded in `adata`. Optional if the model has only one besides `contexts`.
    contexts
        Obs column of contexts, such as ``"tissue"`` or ``"cell_type"``. Contexts with fewer than two categories of the
        phenotype are excluded.
    group_key
        Obs column of donors or samples. Without it, nothing is tested.
    n_cells
        As in :func:`~polygene_scverse.tl.rank_genes`, for each context.
    min_cells
        Minimum number of cells on each side that a donor must have in a context to be included in the test.
    n_permutations
        Number of permutations.
    model
        A model, or the folder it was saved to. By default the one last trained on `adata`.
    gene_symbols, gene_ids
        Columns of ``var`` with gene symbols or Ensembl ids, tried before ``var_names``. By default, genes are matched
        by name, then by common columns such as ``var["gene_ids"]``, then from symbols to Ensembl ids, see
        :meth:`~polygene_scverse.model.Polygene.gene_names`.
    mod
        Modality to use, for MuData; by default the one that the model was trained on, or ``"rna"``.
    seed
        Random seed for the choice of cells and the permutations.
    batch_size
        Number of cells per step.

    Returns
    -------
    None. Writes ``uns["polygene"]["biomarkers"]``: a ``table`` with a row for each gene, category and context, and the
    arguments. Read it with :func:`~polygene_scverse.get.biomarkers` and plot it with
    :func:`~polygene_scverse.pl.biomarkers`.

    Raises
    ------
    ValueError
        If no model is found, if the model does not have the phenotype, if it has several and none is passed, if no
        context has two of its categories, if no gene matches, or if expression has the wrong scale.
    KeyError
        If a column does not exist.

    Warns
    -----
    UserWarning
        If a context has too few donors for a test.

    Examples
    --------
    >>> pgs.tl.biomarkers(adata, "disease", contexts="cell_type", group_key="donor")
    >>> pgs.get.biomarkers(adata, "lupus").query("n_contexts > 3")
    """
    data, trained = cells_and_model(adata, model, mod)
    check_notes(data, BIOMARKERS)
    name = _phenotype(trained, data, phenotype, contexts)
    found = trained.biomarkers(
        data,
        phenotype=name,
        contexts=contexts,
        groupby=trained.columns[name],
        group_key=group_key,
        n_cells=n_cells,
        min_cells=min_cells,
        n_permutations=n_permutations,
        seed=seed,
        gene_symbols=gene_symbols,
        gene_ids=gene_ids,
        batch_size=batch_size,
    )
    few = [level for level, part in found.items() if not part.n_groups.any()]
    if few and group_key is not None:
        warn(
            f"`group_key`: too few groups of {group_key!r} have {min_cells} cells on each side in {shorten(few)} for a "
            "test, so p_value and fdr are NaN there."
        )
    table = pd.concat([_rows(level, part) for level, part in found.items()], ignore_index=True)
    table.index = table.index.astype(str)
    note = {"phenotype": name, "contexts": contexts, "group_key": group_key or "", "seed": seed}
    write_notes(data, **{BIOMARKERS: {"table": table, **note}})


def _phenotype(trained: Polygene, data: AnnData, phenotype: str | None, contexts: str) -> str:
    """The requested phenotype, or the only one besides the contexts; it must be recorded."""
    if phenotype is None:
        names = [name for name, column in trained.columns.items() if column != contexts]
        if len(names) != 1:
            raise ValueError(
                f"`phenotype`: the model has {len(names)} besides {contexts!r}, {shorten(names)}. Pass one of them."
            )
        (phenotype,) = names
    check_choice(phenotype, list(trained.columns), "phenotype")
    if (column := trained.columns[phenotype]) not in data.obs:
        raise KeyError(
            f"`phenotype`: {column!r} is not a column of adata.obs, but the categories must be recorded. Pass a "
            "phenotype that is."
        )
    return phenotype


def _rows(level: str, part: ContextMarkers) -> pd.DataFrame:
    """One row for each category and gene of a context."""
    scores = part.contributions
    n_genes, n_categories = len(scores.genes), len(scores.categories)
    return pd.DataFrame(
        {
            "gene": np.tile(np.array(scores.genes, dtype=object), n_categories),
            "category": np.repeat(np.array(scores.categories, dtype=object), n_genes),
            "context": level,
            "score": scores.scores.ravel().astype(float),
            "log_fold_change": scores.log_fold_changes.ravel().astype(float),
            "n_groups": np.repeat(part.n_groups, n_genes),
            "p_value": part.p_value.ravel(),
            "fdr": np.concatenate([false_discovery_rate(row) for row in part.p_value]),
        }
    )
