"""Sum columns that have the same gene name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData

from polygene_scverse._validate import check_anndata, check_not_empty, check_numbers, shorten
from polygene_scverse.data.read._expression import x_of
from polygene_scverse.data.read._scale import detect_scale
from polygene_scverse.data.read._source import by_row, iterate_rows, read_rows, spread_rows

LOOKED_AT = 1000
"""Number of cells whose values are checked to be counts."""


def sum_genes(adata: AnnData, *, gene_symbols: str | None = None) -> AnnData:
    """Sum the counts of columns that have the same name, such as transcripts of a gene.

    Parameters
    ----------
    adata
        Annotated data matrix, which may be backed, with counts in ``X`` and in each layer.
    gene_symbols
        Column of ``var`` with the names; by default ``var_names``. Where the column is empty, ``var_names`` are kept.

    Returns
    -------
    New AnnData (n_obs x n_names), with columns in order of first occurrence. ``X`` and layers are sums, ``var`` is that
    of the first column of each name, and ``obs``, ``obsm``, ``obsp`` and ``uns`` are copied. ``raw``, ``varm`` and
    ``varp`` are left out. `adata` is not changed.

    Raises
    ------
    KeyError
        If the column does not exist.
    ValueError
        If a matrix does not contain counts, because logarithms cannot be summed.

    Examples
    --------
    >>> adata = pgs.pp.sum_genes(adata)
    """
    check_anndata(adata)
    check_not_empty(*adata.shape)
    if gene_symbols is not None and gene_symbols not in list(adata.var.columns):
        raise KeyError(
            f"`gene_symbols`: {gene_symbols!r} is not a column of adata.var, which has {shorten(adata.var.columns)}. "
            "Pass one of them."
        )
    own = pd.Series(adata.var_names.astype(str))
    asked = own if gene_symbols is None else pd.Series(adata.var[gene_symbols].to_numpy(dtype=object))
    named = asked.notna() & (asked.astype(str) != "")
    codes, names = pd.factorize(asked.astype(str).where(named, own))
    first = np.unique(codes, return_index=True)[1]
    to_gene = sp.csr_matrix((np.ones(len(codes), np.float32), (np.arange(len(codes)), codes)))

    def summed(x: Any, where: str) -> Any:
        check_numbers(x, where)
        matrix = by_row(x)
        sample = read_rows(matrix, spread_rows(adata.n_obs, LOOKED_AT))
        if detect_scale(sample, where).kind != "counts":
            raise ValueError(
                f"`adata`: {where} does not contain counts, and only counts can be summed. Use the raw counts."
            )
        return sp.vstack([block @ to_gene for block in iterate_rows(matrix, np.arange(adata.n_obs))], "csr")

    layers = {name: summed(x, f"adata.layers[{name!r}]") for name, x in adata.layers.items() if name is not None}
    return AnnData(
        None if (x := x_of(adata)) is None else summed(x, "adata.X"),
        obs=adata.obs.copy(),
        var=adata.var.iloc[first].set_axis([str(name) for name in names]),
        obsm=dict(adata.obsm),
        obsp=dict(adata.obsp),
        uns=adata.uns.copy(),
        layers=layers,
    )
