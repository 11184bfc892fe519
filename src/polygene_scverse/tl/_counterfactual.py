"""What the model expects of cells if a phenotype were another one."""

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

from polygene_scverse._constants import COUNTERFACTUAL, KEEP, OBSERVED, UNCHANGED, UNS, note_key
from polygene_scverse.model import Polygene
from polygene_scverse.tl._models import anndata_of, find, gene_names

logger = logging.getLogger(__name__)


def counterfactual(
    adata: AnnData | MuData,
    phenotypes: Mapping[str, Any],
    *,
    genes: Sequence[str] | None = None,
    keep: float = KEEP,
    seed: int = 0,
    model: Polygene | str | Path | None = None,
    gene_symbols: str | None = None,
    gene_ids: str | None = None,
    mod: str = "rna",
    batch_size: int = 64,
) -> AnnData:
    """Expected expression of the same cells with a phenotype set to another category.

    The model is asked twice for genes that it does not see: once with the phenotypes set, once with them as recorded.
    All other phenotypes are shown as recorded, in the cells where they are known.

    What comes back is association, learned from observational data. It says how cells with the other category differ
    among the training cells, all else that is recorded being equal. It does not predict the outcome of an experiment,
    and carries whatever the category went along with: batches, donors, and how cells were chosen.

    Parameters
    ----------
    adata
        Cells; genes are matched by name. It is left as it is.
    phenotypes
        Category that each phenotype is set to in every cell, such as ``{"condition": "stimulated"}``.
    genes
        Genes of the model that are returned; all by default.
    keep
        Share of the cell's own expression that is shown, from 0 to below 1. With 0, the default, the model says what it
        expects of a cell of these phenotypes, the same in all of them; it is fast, and nearest to the shift of new
        donors in our figures (``benchmarks/results/what_if.md``). With more, cells of like phenotypes differ as their
        other genes do; the network is passed ``1 / (1 - keep)`` times, rounded up, for each of the two answers.
    seed
        Seed of which genes are asked for together.
    model
        A model, or the folder it was saved to. By default the one last trained on `adata`.
    gene_symbols, gene_ids
        Columns of ``var`` with symbols or ids of the genes, which go before ``var_names``, see
        :meth:`~polygene_scverse.model.Polygene.gene_names`.
    mod
        Modality to read, for MuData.
    batch_size
        Cells per step, fewer where many genes are asked for.

    Returns
    -------
    New AnnData (n_obs x n_genes) with the cells of `adata` and genes of the model. ``X`` is the expected expression
    with the phenotypes set, ``layers["unchanged"]`` with them as recorded: the mean of log1p of counts per 10,000,
    dense. ``layers["observed"]`` is the cells' own expression, log1p of counts per 10,000, sparse. ``obs`` is a copy of
    that of `adata`, ``var["measured"]`` says whether `adata` has the gene, and ``uns["polygene"]["counterfactual"]``
    holds the arguments.

    Raises
    ------
    ValueError
        If no model is found, if it has no gene decoder, if no phenotype is set, if a phenotype, category or gene is not
        the model's, if `keep` is not from 0 to below 1, if the result would take more than 2 GB, if no gene matches, or
        if expression has the wrong scale.

    Examples
    --------
    >>> result = pgs.tl.counterfactual(adata, {"condition": "stimulated"})
    >>> pgs.get.counterfactual(result, groupby="cell_type", group_key="donor")
    >>> pgs.pl.counterfactual(result, groupby="cell_type", group_key="donor")
    """
    data = anndata_of(adata, mod)
    trained = find(adata, model)
    if not isinstance(phenotypes, Mapping) or not phenotypes:
        raise ValueError(
            f"`phenotypes`: found {phenotypes!r}, but a phenotype and its category are needed. Pass a mapping such as "
            f"{{{trained.layout.phenotype_names[0]!r}: {next(iter(trained.categories.values()))[0]!r}}}."
        )
    if not 0.0 <= keep < 1.0:
        raise ValueError(f"`keep`: found {keep}, but it is a share below 1. Pass a number from 0 to 0.95.")
    chosen = trained.genes if genes is None else [str(gene) for gene in genes]
    logger.info(
        "Expected expression: 2 x %d cells x %d genes, %.2f GB.", data.n_obs, len(chosen),
        8e-9 * data.n_obs * len(chosen),
    )  # fmt: skip
    recorded = [name for name, column in trained.columns.items() if column in data.obs]
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
        warnings.simplefilter("ignore", UserWarning)  # what there is to say of these cells was said above
        observed = trained.measured_expression(data, genes=chosen, gene_symbols=gene_symbols, gene_ids=gene_ids)
    return AnnData(
        changed,
        obs=data.obs.copy(),
        var=pd.DataFrame({"measured": np.isin(chosen, names)}, index=pd.Index(chosen)),
        layers={UNCHANGED: unchanged, OBSERVED: observed},
        uns={UNS: {COUNTERFACTUAL: {**note, "seed": seed}}},
    )
