"""Compare generated cells with real cells."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
from anndata import AnnData

from polygene_scverse._constants import CHECK_GENERATED
from polygene_scverse._validate import check_names, check_notes, check_seed, check_writable, shorten, warn, write_notes
from polygene_scverse.evaluation._check_generated import MIN_CELLS, compare
from polygene_scverse.evaluation._generated_cells import read_sets


def check_generated(
    adata: AnnData,
    reference: AnnData,
    *,
    groupby: str | Sequence[str],
    training: AnnData | None = None,
    n_genes: int = 500,
    max_cells: int = 2_000,
    layer: str | None = None,
    use_raw: bool = False,
    seed: int = 0,
) -> pd.DataFrame:
    """Compare generated cells with held-out real cells, with baselines.

    Both sides are subsampled to the same number of cells of each class. The metrics are also computed for three
    baselines: real training cells (``real cells``), a Gaussian copula fitted to each class, and each gene drawn
    independently within a class. A metric has no meaning by itself; compare ``generated`` with the baselines.

    Parameters
    ----------
    adata
        Generated cells, from :func:`~polygene_scverse.tl.generate` or any other method. ``layers["counts"]`` is used if
        present, otherwise ``X``.
    reference
        Held-out real cells that the model was not trained on, ideally of other donors.
    groupby
        Obs columns whose combinations are the classes, such as ``["cell_type", "condition"]``. Cells without a label
        are left out.
    training
        The cells that the model was trained on. Without them, memorisation is not assessed, and the baselines are
        fitted to one half of `reference` and compared with the other half; since they then know the donors, they are
        harder to beat.
    n_genes
        Number of genes: the most variable ones in the training cells, among the genes that all data sets have.
    max_cells
        Maximum number of cells on each side; if there are more, they are subsampled.
    layer
        Layer of `reference` and `training` to use instead of ``X``, with counts or log-normalised values.
    use_raw
        Whether to use ``raw`` of `reference` and `training` instead of ``X``.
    seed
        Random seed for subsampling, baselines and the random forest.

    Returns
    -------
    A row for each class and metric, and for all cells together (level ``"all"``), with the columns ``level``,
    ``metric``, ``best`` (the value of a perfect generator), ``n_cells``, ``generated``, ``real cells``, ``Gaussian
    copula``, ``independent genes``, and ``reference`` (the value of the held-out cells themselves). Expression is
    normalised to the median total count of the training cells in these genes and log1p-transformed. The metrics are

    * ``rf_auc``: AUROC of a random forest that distinguishes the cells from held-out ones;
    * ``energy``: energy distance on 30 principal components; for all cells, the mean over classes;
    * ``correlation``: correlation between the gene-gene correlations within classes and those of held-out cells, for
      the 150 genes with the highest means;
    * ``mean_error``: mean absolute difference of the mean expression of genes;
    * ``variance_ratio``: median over genes of the variance divided by that of held-out cells, for genes expressed by at
      least a tenth of the held-out cells;
    * ``zeros``: fraction of counts that are 0;
    * ``slope_<column>``: slope of a regression of log-fold changes on those of the held-out cells, for the 100 genes
      with the largest changes there, between classes that differ only in this column. Because these genes are selected
      for large changes, real cells also have a slope below 1;
    * ``tstr_f1``: F1 of a logistic regression trained on the cells and tested on held-out cells; for all cells,
      macro-F1;
    * ``as_requested``: fraction of the cells whose class is predicted by a logistic regression trained on real cells;
    * ``nn_ratio``: median distance to the nearest training cell, divided by that of held-out cells; a value below 1
      means that the cells are closer to training cells than held-out cells are;
    * ``attack_auroc``: AUROC of a membership attack that distinguishes training from held-out cells by their distance
      to the nearest generated cell. Values above 0.5 reveal which cells were used in training; an attack that fails
      does not prove privacy. Distances are measured on 30 principal components of all three sets.

    Writes this table and the arguments to ``uns["polygene"]["check_generated"]`` of `adata`. Read it with
    :func:`~polygene_scverse.get.check_generated` and plot it with :func:`~polygene_scverse.pl.check_generated`.

    Raises
    ------
    KeyError
        If a column or layer does not exist.
    ValueError
        If fewer than half of the genes of `adata` are in the other data, if fewer than two classes have ten cells on
        each side (twenty in `reference` without `training`), or if expression has the wrong scale.

    Examples
    --------
    >>> cells = pgs.tl.generate(test.obs[["cell_type", "condition"]], model=model)
    >>> pgs.tl.check_generated(cells, test, training=train, groupby=["cell_type", "condition"]).query("level == 'all'")
    """
    check_writable(adata)
    check_notes(adata, CHECK_GENERATED)
    check_seed(seed)
    columns = [str(name) for name in check_names(groupby, "groupby")]
    arguments: dict[str, Any] = {"n_genes": n_genes, "max_cells": max_cells, "layer": layer, "use_raw": use_raw}
    sets = read_sets(adata, reference, training, columns, **arguments, seed=seed)
    if sets.left_out:
        where = "`adata`, `reference` or `training`"
        if training is None:
            where = f"`adata`, or fewer than {sets.needed} in `reference`"
        warn(
            f"`groupby`: {shorten(sets.left_out)} are left out, because they have fewer than {MIN_CELLS} cells in "
            f"{where}."
        )
    table = compare(sets.generated, sets.reference, sets.real, sets.labels, members=training is not None, seed=seed)
    note = {"groupby": columns, "n_genes": len(sets.genes), "training": training is not None, "seed": seed}
    write_notes(adata, **{CHECK_GENERATED: {"table": table, **note}})
    return table.copy()
