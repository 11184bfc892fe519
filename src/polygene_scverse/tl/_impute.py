"""Impute unmeasured genes and denoise measured ones."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from mudata import MuData

from polygene_scverse._constants import IMPUTE_KEEP, IMPUTED
from polygene_scverse._validate import check_keep, check_names, check_notes, check_plain_name, warn_once, write_notes
from polygene_scverse.model import Polygene
from polygene_scverse.tl._models import cells_and_model, gene_names

logger = logging.getLogger(__name__)


def impute(
    adata: AnnData | MuData,
    *,
    genes: Sequence[str] | None = None,
    layer_added: str = IMPUTED,
    given: str | Sequence[str] | None = None,
    keep: float | None = None,
    log: bool = True,
    model: Polygene | str | Path | None = None,
    gene_symbols: str | None = None,
    gene_ids: str | None = None,
    mod: str | None = None,
    seed: int = 0,
    batch_size: int = 128,
) -> AnnData | None:
    """Denoise measured genes and impute unmeasured ones.

    Measured genes are denoised with 20 factors fitted to the training cells, from all genes of the cell including the
    gene itself. On held-out molecules this is more accurate than the network, and than common simple methods on three
    of four data sets (``benchmarks/results/impute.md``). With `keep`, the network predicts them instead, each from a
    part of the other genes, so that a value never depends on the count of the gene itself. Genes that `adata` does not
    have are predicted by the network from all measured genes.

    Imputed values are expected values and have less variance than measurements, so correlations and tests of imputed
    genes are overconfident. They reflect associations in the training cells and are not measurements.

    Parameters
    ----------
    adata
        Cells. Genes are matched by name.
    genes
        Genes of the model to return; by default all.
    layer_added
        Layer to write to.
    given
        Phenotypes whose recorded values are shown to the network; by default none.
    keep
        Fraction of the genes that are shown when the network predicts measured genes, at least 0 and below 1; this
        takes ``1 / (1 - keep)`` passes through the network, rounded up. By default measured genes are denoised by the
        factors, unless phenotypes are `given` or the model has no factors (trained on fewer than 50 cells, or saved by
        an earlier version); in these cases the default is 0.75.
    log
        Whether to return the mean of log1p of counts per 10,000. False returns the mean of counts per 10,000; multiply
        by the total of a cell / 10,000 to get counts.
    model
        A model, or the folder it was saved to. By default the one last trained on `adata`.
    gene_symbols, gene_ids
        Columns of ``var`` with gene symbols or Ensembl ids, tried before ``var_names``, see
        :meth:`~polygene_scverse.model.Polygene.gene_names`.
    mod
        Modality to use, for MuData; by default the one that the model was trained on, or ``"rna"``.
    seed
        Random seed for the choice of genes that are predicted together.
    batch_size
        Number of cells per step; reduced if many genes are predicted at once.

    Returns
    -------
    For genes that `adata` does not have, a new AnnData (n_obs x n_unmeasured_genes) with the expected expression in
    ``X``; None if `adata` has all of them. For genes that it has, writes ``layers["imputed"]`` (n_obs x n_vars; NaN for
    genes that are not requested or not in the model). Both are dense, and their size is logged first. The arguments are
    written to ``uns["polygene"]["impute"]``.

    Raises
    ------
    ValueError
        If no model is found, if it has no gene decoder, if the model does not have a phenotype or gene, if `keep` is
        out of range, if the result would take more than 2 GB, if no gene matches, or if expression has the wrong scale.
    KeyError
        If a phenotype in `given` is not an obs column.

    Examples
    --------
    >>> others = pgs.tl.impute(panel, model=model)
    >>> panel.layers["imputed"]
    """
    data, trained = cells_and_model(adata, model, mod)
    check_notes(data, "impute")
    check_plain_name(layer_added, "layer_added")
    if keep is not None:
        check_keep(keep)
    chosen = trained.genes if genes is None else [str(gene) for gene in check_names(genes, "genes")]
    names = gene_names(data, trained, gene_symbols, gene_ids)
    there = names.get_indexer(pd.Index(chosen)) >= 0
    trained.check_expected(data.n_obs, chosen, data.n_vars if there.any() else 0)
    own, absent = ([g for g, t in zip(chosen, there, strict=True) if t == of] for of in (True, False))
    n_values = data.n_obs * ((data.n_vars if own else 0) + len(absent))
    logger.info("Expected expression: %d cells x %d genes, %.2f GB.", data.n_obs, len(chosen), 4e-9 * n_values)
    common: dict[str, Any] = {"given": given, "seed": seed, "log": log, "batch_size": batch_size}
    common |= {"gene_symbols": gene_symbols, "gene_ids": gene_ids}
    found: dict[str, Any] = {}
    with warn_once():
        if own and keep is None and given is None:
            found["own"] = trained.denoised_expression(
                data, genes=own, log=log, gene_symbols=gene_symbols, gene_ids=gene_ids
            )
        share = IMPUTE_KEEP if keep is None else keep
        for name, part, shown in (("own", own, share), ("absent", absent, 1.0)):
            if part and found.get(name) is None:
                (found[name],) = trained.expected_expression(data, genes=part, keep=shown, **common)
    if own:
        layer = np.full(data.shape, np.nan, dtype=np.float32)
        layer[:, names.get_indexer(pd.Index(own))] = found["own"]
        data.layers[layer_added] = layer
    by = "factors" if keep is None and given is None and trained.fitted_.factors is not None else "network"
    shown = 1.0 if by == "factors" else share
    write_notes(data, impute={"layer": layer_added, "by": by, "keep": shown, "log": log, "seed": seed})
    if not absent:
        return None
    return AnnData(found["absent"], obs=data.obs.copy(), var=pd.DataFrame(index=pd.Index(absent)))
