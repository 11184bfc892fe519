"""Check whether data fit a model before predicting."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from anndata import AnnData
from mudata import MuData

from polygene_scverse.model import Polygene
from polygene_scverse.model._check import check as check_cells
from polygene_scverse.tl._models import cells_and_model


def check(
    adata: AnnData | MuData,
    *,
    model: Polygene | str | Path | None = None,
    gene_symbols: str | None = None,
    gene_ids: str | None = None,
    mod: str | None = None,
) -> pd.Series:
    """Report how well data fit a model: genes, scale, labels and expected accuracy.

    Parameters
    ----------
    adata
        Annotated data matrix; not changed.
    model
        A model, or the folder it was saved to. By default the one last trained on `adata`.
    gene_symbols, gene_ids
        Columns of ``var`` with gene symbols or Ensembl ids, tried before ``var_names``.
    mod
        Modality to use, for MuData; by default the one that the model was trained on, or ``"rna"``.

    Returns
    -------
    Series with ten descriptions: ``cells``, ``genes matched`` (and how), ``unmeasured``, ``extra``, ``scale``,
    ``totals``, ``silent cells``, ``phenotypes``, ``unknown categories``, ``expected accuracy``.

    Raises
    ------
    ValueError
        If no model is found, or if there are no cells. Other data that the model cannot read do not raise an error; the
        report says so.
    KeyError
        If a column of ``var`` or the modality does not exist.

    Examples
    --------
    >>> for name, answer in pgs.tl.check(adata, model="my_model").items():
    ...     print(f"{name}: {answer}")
    """
    data, trained = cells_and_model(adata, model, mod)
    found = check_cells(trained, data, gene_symbols=gene_symbols, gene_ids=gene_ids)
    return pd.Series(found, name="check", dtype=object)
