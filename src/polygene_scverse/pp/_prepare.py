"""Rank genes for a model."""

from __future__ import annotations

from typing import Any

import numpy as np
from anndata import AnnData

from polygene_scverse._constants import RANK
from polygene_scverse._validate import check_columns, check_notes, check_seed, check_writable, write_notes
from polygene_scverse.data.read._expression import Expression
from polygene_scverse.data.read._phenotypes import candidates
from polygene_scverse.data.read._ranking import rank_genes


def prepare(
    adata: AnnData, *, layer: str | None = None, use_raw: bool = False, batch_key: str | None = None, seed: int = 0
) -> None:
    """Rank genes from most to least variable.

    :func:`~polygene_scverse.tl.train` does this automatically, on the training cells only. Call it to fix the genes
    beforehand, for example across the batches of an atlas.

    Parameters
    ----------
    adata
        Annotated data matrix with raw counts or log-normalised values; the scale is auto-detected.
    layer
        Layer to use instead of ``X``.
    use_raw
        Whether to use ``adata.raw`` instead of ``X``; it must have the same genes as `adata`.
    batch_key
        Obs column of batches. Genes that are highly variable in more batches are ranked first.
    seed
        Random seed for subsampling if there are more than 50,000 cells.

    Returns
    -------
    None. Writes ``var["highly_variable_rank"]`` (0 for the most variable gene, NaN for genes that no cell expresses)
    and ``uns["polygene"]["prepare"]``.

    Raises
    ------
    ValueError
        If expression is neither raw counts nor log-normalised, or if gene names are not unique.
    KeyError
        If `layer` or `batch_key` does not exist.
    """
    check_writable(adata)
    check_notes(adata, "prepare")
    check_seed(seed)
    if adata.n_obs < 2:
        raise ValueError(f"`adata`: found {adata.n_obs} cells, but genes are ranked by how they vary. Pass more cells.")
    expression = Expression.of(adata, layer, use_raw)
    if len(expression.var_names) != adata.n_vars:
        raise ValueError(
            f"`use_raw`: adata.raw has {len(expression.var_names)} genes and adata has {adata.n_vars}, so ranks cannot "
            "be written into adata.var. Call it on adata.raw.to_adata()."
        )
    if batch_key is not None:
        check_columns([batch_key], adata.obs, "batch_key", candidates)
    batch = None if batch_key is None else adata.obs[batch_key]
    ranks = rank_genes(expression, np.arange(adata.n_obs), batch=batch, seed=seed)
    adata.var[RANK] = ranks.to_numpy()
    record: dict[str, Any] = {"scale": str(expression.scale), "place": expression.where}
    record |= {"batch_key": batch_key or "", "n_genes": int(ranks.notna().sum())}
    write_notes(adata, prepare=record)
