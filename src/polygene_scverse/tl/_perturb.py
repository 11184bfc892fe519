"""What the model expects of cells if a gene were silent, or high."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from anndata import AnnData
from mudata import MuData

from polygene_scverse._constants import PERTURB, UNS
from polygene_scverse.model import Polygene
from polygene_scverse.tl._models import anndata_of, find


def perturb(
    adata: AnnData | MuData,
    genes: Sequence[str | Sequence[str]],
    *,
    kind: str = "knockout",
    responses: Sequence[str] | None = None,
    n_null: int = 200,
    seed: int = 0,
    model: Polygene | str | Path | None = None,
    mod: str = "rna",
    batch_size: int = 64,
) -> AnnData:
    """Shift of phenotypes, embedding and other genes when a gene of the same cells is silenced or set high.

    Each cell is compared with itself: the model sees its expression as it is, and with the gene changed. No phenotype
    is shown. The same is done with random genes of about the same mean expression, from which
    :func:`~polygene_scverse.get.perturb` tells shifts that are larger than usual.

    What comes back is association, learned from observational data: a gene that goes along with a phenotype shifts it,
    whether it causes it or not, and a gene is as good as another one that is expressed together with it. It does not
    predict the outcome of an experiment. On measured perturbations deep models have not been better than linear ones
    (Ahlmann-Eltze et al., Nature Methods 2025).

    Parameters
    ----------
    adata
        Cells; genes are matched by name. It is left as it is. Of more than 2,000 cells so many are drawn: pass the
        cells of one type to ask about these.
    genes
        Genes to perturb, one after the other; several that are perturbed together stand in a tuple.
    kind
        ``"knockout"`` takes the gene's expression away, which changes only cells that express it. ``"overexpress"``
        sets it to the mean expression of its highest bin in the training cells.
    responses
        Genes of the model whose expected expression is asked for; by default the 200 most variable ones that are not
        perturbed, nor among the random ones.
    n_null
        Random genes; 0 for none.
    seed
        Seed of the draws of random genes and of cells.
    model
        A model, or the folder it was saved to. By default the one last trained on `adata`.
    mod
        Modality to read, for MuData.
    batch_size
        Cells per step.

    Returns
    -------
    New AnnData with a row for each perturbation, those of random genes marked by ``obs["null"]``, and a column for each
    of `responses`. ``X`` is the mean shift of expected expression (log1p of counts per 10,000), NaN for a gene that is
    perturbed itself; ``obsm["phenotype_shift"]`` that of the probability of each category, whose names are in
    ``uns["polygene"]["perturb"]``, and ``obsm["embedding_shift"]`` that of the embedding, the mean state of the
    phenotypes' tokens. All are means over cells that the perturbation changes, at most 100 of them, and 20 for ``X``.
    ``obs`` also holds ``n_genes``, ``n_cells``, how many cells are changed, ``expression``, the mean expression of the
    genes in `adata`, and ``embedding``, the mean length of the embedding's shift.

    Raises
    ------
    ValueError
        If no model is found, if it has no gene decoder, if a gene is not the model's, is not measured in `adata`, or is
        named twice, if `kind` is none of the two, or as for :func:`~polygene_scverse.tl.predict_phenotype`.

    Examples
    --------
    >>> result = pgs.tl.perturb(adata, ["STAT1", "IRF7", ("STAT1", "STAT2")])
    >>> pgs.get.perturb(result, "condition")
    """
    data, trained = anndata_of(adata, mod), find(adata, model)
    found = trained.perturb(
        data, genes, kind=kind, responses=responses, n_null=n_null, seed=seed, batch_size=batch_size
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
