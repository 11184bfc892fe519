"""Ranking of genes by variability, with scanpy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import scanpy as sc
import scipy.sparse as sp
from anndata import AnnData
from numpy.typing import NDArray

from polygene_scverse._constants import RANK, TARGET_SUM
from polygene_scverse._threads import threads_kept
from polygene_scverse._validate import check_names, check_whole, shorten, warn
from polygene_scverse.data.read._expression import Expression

FEWEST_CELLS = 3
"""Minimum number of cells from which variability can be computed."""
MOST_CELLS = 50_000
"""Maximum number of cells from which variability is computed; larger data are subsampled."""


def choose_genes(
    expression: Expression,
    rows: NDArray[np.integer],
    n_genes: int,
    *,
    genes: Sequence[str] | None = None,
    ranks: pd.Series | None = None,
    seed: int = 0,
) -> list[str]:
    """Choose the genes of a model, most variable first.

    Parameters
    ----------
    expression
        Expression of the data set.
    rows
        Cells from which to rank, if there are no ranks.
    n_genes
        Number of genes.
    genes
        Genes that are already chosen.
    ranks
        ``var["highly_variable_rank"]``, if it exists.
    seed
        As for `rank_genes`.

    Raises
    ------
    KeyError
        If one of `genes` is not in the data.
    ValueError
        As for `genes_by_rank`.
    """
    check_whole(n_genes, "n_genes", 1)
    if genes is not None:
        genes = [str(gene) for gene in check_names(genes, "genes")]
        if absent := [gene for gene in genes if gene not in expression.var_names]:
            raise KeyError(f"`genes`: {shorten(absent)} are not in adata.var_names. Pass only names in it.")
        return genes
    return genes_by_rank(rank_genes(expression, rows, seed=seed) if ranks is None else ranks, n_genes)


def rank_genes(
    expression: Expression,
    rows: NDArray[np.integer],
    *,
    batch: pd.Series | None = None,
    seed: int = 0,
) -> pd.Series:
    """Rank of each gene by normalised dispersion (scanpy's ``seurat`` flavour), 0 for the most variable.

    Parameters
    ----------
    expression
        Expression of the data set.
    rows
        Cells from which to rank.
    batch
        Batch of each cell of the data set. Genes that are highly variable in more batches come first.
    seed
        Seed of the draw when there are more than 50,000 cells.

    Returns
    -------
    Ranks by gene, as float; NaN for genes that no cell expresses.
    """
    if len(rows) > MOST_CELLS:
        rows = np.sort(np.random.default_rng(seed).choice(rows, MOST_CELLS, replace=False))
    var_names = expression.var_names
    data = AnnData(sp.vstack(list(expression.blocks(rows)), format="csr"), var=pd.DataFrame(index=var_names))
    if expression.scale.kind == "counts" and expression.footing is None:
        with threads_kept():
            sc.pp.normalize_total(data, target_sum=TARGET_SUM)
            sc.pp.log1p(data)
    else:
        footing = expression.footing
        totals = None if footing is None else footing.totals(data.X, expression.scale)
        data.X.data = expression.scale.to_log1p(data.X, totals)
    keys, batch_key = ["dispersions_norm"], None
    if batch is not None:
        data.obs["batch"] = pd.Categorical(batch.iloc[rows].astype(str).to_numpy())
        data = _without_small_batches(data)
        if len(data.obs["batch"].cat.categories) > 1:
            keys, batch_key = ["highly_variable_nbatches", *keys], "batch"
    n_cells = np.bincount(data.X.indices, minlength=len(var_names))
    expressed = data[:, n_cells > 0].copy()
    if not _any_varies(expressed.X):
        raise ValueError(
            f"`adata`: every gene of {expression.where} has the same expression in all cells, so there is nothing to "
            "learn. Check how it was computed."
        )
    n_top_genes = max(1, expressed.n_vars // 5)
    with threads_kept():
        sc.pp.highly_variable_genes(expressed, n_top_genes=n_top_genes, batch_key=batch_key)
    order = expressed.var[keys].fillna(-np.inf).sort_values(keys, ascending=False, kind="stable").index
    return pd.Series(np.arange(len(order), dtype=float), index=order).reindex(var_names).rename(RANK)


def _any_varies(x: sp.csr_matrix) -> bool:
    """Whether any column differs between rows by more than rounding errors."""
    low, high = (np.asarray(of(axis=0).todense(), dtype=np.float64) for of in (x.min, x.max))
    return x.shape[0] < 2 or bool((high - low > 1e-5 * high).any())


def _without_small_batches(data: AnnData) -> AnnData:
    """Remove batches that are too small to compute variability; if all are, keep all cells as one batch."""
    expressing = np.diff(data.X.indptr) > 0
    n_cells = data.obs["batch"][expressing].value_counts()  # empty cells carry no information
    if len(small := sorted(n_cells.index[n_cells < FEWEST_CELLS])) == 0:
        return data
    warn(
        f"`batch_key`: the batches {shorten(small, 5)} have fewer than {FEWEST_CELLS} cells that express a gene: too "
        "few to estimate variability; they are left out of the ranking."
    )
    if len(small) == len(n_cells):
        data.obs["batch"] = pd.Categorical(["all"] * data.n_obs)
        return data
    return data[~data.obs["batch"].isin(small).to_numpy()].copy()


def genes_by_rank(ranks: pd.Series, n_genes: int) -> list[str]:
    """Names of the `n_genes` genes with the lowest ranks, in ascending order; ties are in the order of `ranks`.

    Ranks of scanpy's ``seurat_v3`` are medians over batches and may be tied.

    Raises
    ------
    ValueError
        If no gene has a rank, or if ranks are not numbers.
    """
    if pd.to_numeric(known := ranks.dropna(), errors="coerce").isna().any():
        raise ValueError(
            f"`adata`: adata.var[{RANK!r}] has {shorten(known, 3)}, but numbers are needed, 0 for the most variable "
            "gene. Rank genes with pp.prepare, or drop the column."
        )
    ranks = known.astype(float).sort_values(kind="stable")
    ranks = ranks[ranks < n_genes].head(n_genes)
    if ranks.empty:
        raise ValueError(
            f"`n_genes`: no gene has a rank below {n_genes} in adata.var[{RANK!r}]. Rank genes with pp.prepare."
        )
    return [str(name) for name in ranks.index]
