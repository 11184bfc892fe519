"""Predict expression of cells with a phenotype set to another category."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from mudata import MuData

from polygene_scverse._constants import COUNTERFACTUAL, KEEP, OBSERVED, UNCHANGED, UNS, filled_key, note_key
from polygene_scverse._validate import check_keep, check_names, warn
from polygene_scverse.model import Polygene
from polygene_scverse.tl._models import cells_and_model, gene_names

logger = logging.getLogger(__name__)


def counterfactual(
    adata: AnnData | MuData,
    phenotypes: Mapping[str, Any],
    *,
    genes: Sequence[str] | None = None,
    keep: float = KEEP,
    model: Polygene | str | Path | None = None,
    gene_symbols: str | None = None,
    gene_ids: str | None = None,
    mod: str | None = None,
    seed: int = 0,
    batch_size: int = 128,
) -> AnnData:
    """Predict the expression of cells with a phenotype set to another category.

    The model predicts the hidden genes of each cell twice: once with the phenotypes set to the given categories, and
    once with the recorded ones. All other phenotypes of the model are shown as recorded. Where a phenotype is not
    recorded, the prediction is an average over its categories, with a warning if most cells lack it; fill it with
    :func:`~polygene_scverse.tl.fill_phenotype` first.

    The result is an association learned from observational data. It describes how cells of the other category differ in
    the training data, with all other recorded phenotypes equal. It does not predict the outcome of an experiment, and
    it includes the effect of everything that is confounded with the category, such as batches, donors and the selection
    of cells.

    Parameters
    ----------
    adata
        Cells; not changed. Genes are matched by name.
    phenotypes
        Category to set each phenotype to, in every cell, such as ``{"condition": "stimulated"}``.
    genes
        Genes of the model to return; by default all.
    keep
        Fraction of the cell's own genes that are shown, at least 0 and below 1. With 0, the default, all cells with the
        same phenotypes get the same prediction; this is fast, and closest to the observed change in new donors in our
        benchmarks (``benchmarks/results/what_if.md``). With larger values the prediction depends on the other genes of
        each cell, and takes ``1 / (1 - keep)`` passes through the network, rounded up, instead of one.
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
    New AnnData (n_obs x n_genes) with the cells of `adata` and the genes of the model. ``X`` is the expected expression
    with the phenotypes set, and ``layers["unchanged"]`` that with the recorded phenotypes, both as the mean of log1p of
    counts per 10,000, dense. ``layers["observed"]`` is the measured expression, log1p of counts per 10,000, sparse.
    ``obs`` is copied from `adata`, ``var["measured"]`` is True for genes that `adata` has, and
    ``uns["polygene"]["counterfactual"]`` holds the arguments.

    Raises
    ------
    ValueError
        If no model is found, if it has no gene decoder, if no phenotype is set, if the model does not have a phenotype,
        category or gene, if `keep` is out of range, if the result would take more than 2 GB, if no gene matches, or if
        expression has the wrong scale.

    Examples
    --------
    >>> result = pgs.tl.counterfactual(adata, {"condition": "stimulated"})
    >>> pgs.get.counterfactual(result, groupby="cell_type", group_key="donor")
    >>> pgs.pl.counterfactual(result, groupby="cell_type", group_key="donor")
    """
    data, trained = cells_and_model(adata, model, mod)
    if not isinstance(phenotypes, Mapping) or not phenotypes:
        raise ValueError(
            f"`phenotypes`: found {phenotypes!r}, but a phenotype and its category are needed. Pass a mapping such as "
            f"{{{trained.layout.phenotype_names[0]!r}: {next(iter(trained.categories.values()))[0]!r}}}."
        )
    check_keep(keep)
    chosen = trained.genes if genes is None else [str(gene) for gene in check_names(genes, "genes")]
    logger.info(
        "Expected expression: 2 x %d cells x %d genes, %.2f GB.", data.n_obs, len(chosen),
        8e-9 * data.n_obs * len(chosen),
    )  # fmt: skip
    recorded = [name for name, column in trained.columns.items() if column in data.obs]
    _warn_of_unrecorded(data, trained, keep)
    changed, unchanged = trained.expected_expression(
        data,
        genes=chosen,
        settings=[phenotypes, {}],
        keep=keep,
        given=recorded,
        seed=seed,
        gene_symbols=gene_symbols,
        gene_ids=gene_ids,
        batch_size=batch_size,
    )
    names = gene_names(data, trained, gene_symbols, gene_ids)
    note = {
        "phenotypes": {note_key(str(name)): str(category) for name, category in phenotypes.items()},
        "columns": {note_key(str(name)): trained.columns[str(name)] for name in phenotypes},
        "keep": keep,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the same warnings were given above
        observed = trained.measured_expression(data, genes=chosen, gene_symbols=gene_symbols, gene_ids=gene_ids)
    return AnnData(
        changed,
        obs=data.obs.copy(),
        var=pd.DataFrame({"measured": np.isin(chosen, names)}, index=pd.Index(chosen)),
        layers={UNCHANGED: unchanged, OBSERVED: observed},
        uns={UNS: {COUNTERFACTUAL: {**note, "seed": seed}}},
    )


def _warn_of_unrecorded(data: AnnData, model: Polygene, keep: float) -> None:
    """Warn of phenotypes that most cells lack, because the prediction is then an average over their categories."""
    n_cells = {name: int((codes < 0).sum()) for name, codes in model.encode(data.obs).items()}
    missing = {name: n for name, n in n_cells.items() if n > data.n_obs / 2}
    if not missing:
        return
    counts = ", ".join(f"{name!r} in {n:,}" for name, n in missing.items())
    columns = "; ".join(f"adata.obs[{model.columns[name]!r}] = adata.obs[{filled_key(name)!r}]" for name in missing)
    same = ", or even the same in all cells" if keep == 0 else ""
    warn(
        f"`adata`: phenotypes are not recorded, or with a category that the model does not know ({counts} of "
        f"{data.n_obs:,} cells). In these cells the prediction is an average over all categories, so shifts are too "
        f"small{same}. Fill them with predictions first: pgs.tl.fill_phenotype(adata); {columns}."
    )
