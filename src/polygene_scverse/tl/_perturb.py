"""Predict the effect of silencing or overexpressing a gene."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from anndata import AnnData
from mudata import MuData

from polygene_scverse._constants import PERTURB, UNS
from polygene_scverse.model import Polygene
from polygene_scverse.tl._models import cells_and_model


def perturb(
    adata: AnnData | MuData,
    genes: Sequence[str | Sequence[str]],
    *,
    kind: str = "knockout",
    responses: Sequence[str] | None = None,
    n_null: int = 200,
    model: Polygene | str | Path | None = None,
    gene_symbols: str | None = None,
    gene_ids: str | None = None,
    mod: str | None = None,
    seed: int = 0,
    batch_size: int = 128,
) -> AnnData:
    """Predict how phenotypes, embedding and other genes change when a gene is silenced or overexpressed.

    Each cell is compared with itself, with its measured expression and with the gene changed in silico. No phenotype is
    shown to the model. The same is done with random genes of similar mean expression, which
    :func:`~polygene_scverse.get.perturb` uses as a null distribution.

    The result is an association learned from observational data: a gene that is correlated with a phenotype shifts it,
    whether or not it causes it, and genes that are expressed together cannot be distinguished. It does not predict the
    outcome of an experiment. On measured perturbations, deep models have not been better than linear ones
    (Ahlmann-Eltze et al., Nature Methods 2025).

    Parameters
    ----------
    adata
        Cells; not changed. Genes are matched by name. If there are more than 2,000 cells, 2,000 are drawn at random. To
        study one cell type, pass only its cells.
    genes
        Genes of the model to perturb, one at a time. Use a tuple to perturb several genes together.
    kind
        ``"knockout"`` sets the expression of the gene to zero, which changes only cells that express it.
        ``"overexpress"`` sets it to the mean expression of its highest bin in the training cells.
    responses
        Genes of the model whose expression is predicted; by default the 200 most variable genes that are neither
        perturbed nor among the random genes.
    n_null
        Number of random genes; 0 for none. Unless `responses` are passed, at most half of the other genes.
    model
        A model, or the folder it was saved to. By default the one last trained on `adata`.
    gene_symbols, gene_ids
        Columns of ``var`` with gene symbols or Ensembl ids, tried before ``var_names``, see
        :meth:`~polygene_scverse.model.Polygene.gene_names`.
    mod
        Modality to use, for MuData; by default the one that the model was trained on, or ``"rna"``.
    seed
        Random seed for the choice of random genes and of cells.
    batch_size
        Number of cells per step.

    Returns
    -------
    New AnnData with a row for each perturbation (``obs["null"]`` is True for random genes) and a column for each gene
    in `responses`. ``X`` is the mean change of the predicted expression (log1p of counts per 10,000; NaN for the
    perturbed gene itself), ``obsm["phenotype_shift"]`` the mean change of the probability of each category, whose names
    are in ``uns["polygene"]["perturb"]``, and ``obsm["embedding_shift"]`` that of the embedding, the mean state of the
    phenotype tokens. All are means over at most 100 cells that the perturbation changes, or 20 cells for ``X``. ``obs``
    also has ``n_genes``, ``n_cells`` (number of cells that are changed), ``expression`` (mean expression of the genes
    in `adata`) and ``embedding`` (mean length of the embedding shift).

    Raises
    ------
    ValueError
        If no model is found, if it has no gene decoder, if a gene is not in the model, is not measured in `adata` or is
        named twice, if `kind` is unknown, or as for :func:`~polygene_scverse.tl.predict_phenotype`.

    Examples
    --------
    >>> result = pgs.tl.perturb(adata, ["STAT1", "IRF7", ("STAT1", "STAT2")])
    >>> pgs.get.perturb(result, "condition")
    """
    data, trained = cells_and_model(adata, model, mod)
    found = trained.perturb(
        data,
        genes,
        kind=kind,
        responses=responses,
        n_null=n_null,
        seed=seed,
        gene_symbols=gene_symbols,
        gene_ids=gene_ids,
        batch_size=batch_size,
    )
    names = list(found["names"])
    obs = pd.DataFrame(
        {
            "null": np.arange(len(names)) >= found["n_perturbations"],
            "n_genes": found["n_genes"],
            "n_cells": found["n_cells"],
            "expression": found["expression_of_genes"],
            "embedding": found["distance"],
        },
        index=pd.Index(names),
    )
    slots = trained.categories.items()
    note = {
        "kind": kind,
        "seed": seed,
        "phenotypes": np.array([name for name, of_one in slots for _ in of_one], dtype=object),
        "categories": np.array([category for _, of_one in slots for category in of_one], dtype=object),
    }
    return AnnData(
        found["expression"].astype(np.float32),
        obs=obs,
        var=pd.DataFrame(index=pd.Index(found["responses"])),
        obsm={"phenotype_shift": found["probabilities"], "embedding_shift": found["embedding"]},
        uns={UNS: {PERTURB: note}},
    )
