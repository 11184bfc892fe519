"""Expected expression of genes that are unmeasured, or of all."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from mudata import MuData

from polygene_scverse._constants import IMPUTE_KEEP, IMPUTED
from polygene_scverse._validate import check_notes, check_plain_name, write_notes
from polygene_scverse.model import Polygene
from polygene_scverse.tl._models import anndata_of, find, gene_names

logger = logging.getLogger(__name__)


def impute(
    adata: AnnData | MuData,
    *,
    genes: Sequence[str] | None = None,
    layer_added: str = IMPUTED,
    given: str | Sequence[str] | None = None,
    keep: float = IMPUTE_KEEP,
    seed: int = 0,
    model: Polygene | str | Path | None = None,
    gene_symbols: str | None = None,
    gene_ids: str | None = None,
    mod: str = "rna",
    batch_size: int = 64,
) -> AnnData | None:
    """Expected expression of genes, given the others.

    Genes that `adata` does not have are asked for with all that it has shown. Measured genes are asked for too, part by
    part, with the rest shown: what comes back follows from a cell's other genes and never from the gene's own count, so
    that it is free of that count's noise, and of whatever is particular to this gene in this cell.

    Values are means, less spread than measurements: correlations and tests among imputed genes are too sure of
    themselves. They are what goes along with the shown genes in the training cells, no measurement.

    Parameters
    ----------
    adata
        Cells; genes are matched by name.
    genes
        Genes of the model; all by default.
    layer_added
        Layer to write.
    given
        Phenotypes whose recorded value is shown to the model; by default none.
    keep
        Share of the genes that is shown when measured ones are asked for, from 0 to below 1. The network is passed
        ``1 / (1 - keep)`` times, rounded up.
    seed
        Seed of which genes are asked for together.
    model
        A model, or the folder it was saved to. By default the one last trained on `adata`.
    gene_symbols, gene_ids
        Columns of ``var`` with symbols or ids of the genes, which go before ``var_names``, see
        :meth:`~polygene_scverse.model.Polygene.gene_names`.
    mod
        Modality to read and write, for MuData.
    batch_size
        Cells per step, fewer where many genes are asked for.

    Returns
    -------
    For genes that `adata` does not have new AnnData (n_obs x n_such_genes) with ``X``, the expected expression; None if
    it has all. For genes that it has, ``layers["imputed"]`` of `adata` is written (n_obs x n_vars; NaN for genes that
    are not asked for or not the model's). Both are dense, means of log1p of counts per 10,000. Writes
    ``uns["polygene"]["impute"]``, the arguments.

    Raises
    ------
    ValueError
        If no model is found, if it has no gene decoder, if a phenotype or gene is not the model's, if `keep` is not
        from 0 to below 1, if the result would take more than 2 GB, if no gene matches, or if expression has the wrong
        scale.
    KeyError
        If a phenotype that is `given` is not an obs column.

    Examples
    --------
    >>> others = pgs.tl.impute(panel, model=model)
    >>> panel.layers["imputed"]
    """
    data = anndata_of(adata, mod)
    check_notes(data, "impute")
    check_plain_name(layer_added, "layer_added")
    trained = find(adata, model)
    if not 0.0 <= keep < 1.0:
        raise ValueError(f"`keep`: found {keep}, but it is a share below 1. Pass a number from 0 to 0.95.")
    chosen = trained.genes if genes is None else [str(gene) for gene in genes]
    names = gene_names(data, trained, gene_symbols, gene_ids)
    there = names.get_indexer(pd.Index(chosen)) >= 0
    trained.check_expected(data.n_obs, chosen, data.n_vars if there.any() else 0)
    own, absent = ([g for g, t in zip(chosen, there, strict=True) if t == of] for of in (True, False))
    logger.info("Expected expression: %d cells x %d genes.", data.n_obs, len(chosen))
    common: dict[str, Any] = {"given": given, "seed": seed, "batch_size": batch_size}
    common |= {"gene_symbols": gene_symbols, "gene_ids": gene_ids}
    found = {}
    with warnings.catch_warnings():  # once is enough
        for name, part, share in (("own", own, keep), ("absent", absent, 1.0)):
            if part:
                (found[name],) = trained.expected_expression(data, genes=part, keep=share, **common)
                warnings.filterwarnings("ignore", message=".*genes are unmeasured in these data")
    if own:
        layer = np.full(data.shape, np.nan, dtype=np.float32)
        layer[:, names.get_indexer(pd.Index(own))] = found["own"]
        data.layers[layer_added] = layer
    write_notes(data, impute={"layer": layer_added, "keep": keep, "seed": seed})
    if not absent:
        return None
    return AnnData(found["absent"], obs=data.obs.copy(), var=pd.DataFrame(index=pd.Index(absent)))
