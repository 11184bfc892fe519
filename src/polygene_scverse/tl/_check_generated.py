"""Generated cells beside real ones and simple generators."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import pandas as pd
from anndata import AnnData

from polygene_scverse._constants import CHECK_GENERATED
from polygene_scverse._validate import check_notes, check_writable, shorten, write_notes
from polygene_scverse.evaluation._check_generated import compare
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
    seed: int = 0,
) -> pd.DataFrame:
    """Compare generated cells with held-out real cells, beside simple generators and real training cells.

    As many cells of each class are taken from both sides. The same metrics are given for three baselines, fitted to the
    training cells: these cells themselves (``real cells``: what another draw of real cells of these donors scores), a
    Gaussian copula of each class, and each gene drawn independently within a class. No metric is good or bad by itself:
    look for those where ``generated`` is better than a baseline, and worse.

    Parameters
    ----------
    adata
        Generated cells, such as :func:`~polygene_scverse.tl.generate` returns, or of any other method;
        ``layers["counts"]`` is read where it is there, else ``X``.
    reference
        Held-out real cells: of donors, or at least cells, that the model was not trained on.
    groupby
        Obs columns whose combinations are the classes, such as ``["cell_type", "condition"]``. Cells without a label
        are left out.
    training
        The cells that the model was trained on. Without them nothing can be said of memorisation, and the baselines are
        fitted to one half of `reference` and all is compared with the other half: as they know the donors then, they
        are harder to beat.
    n_genes
        Number of genes: those most variable in the training cells, of the genes that all data have.
    max_cells
        Number of cells of a side above which fewer are drawn.
    layer
        Layer of `reference` and `training` to read instead of ``X``. Counts or their logarithms: the scale is detected.
    seed
        Seed of draws, baselines and the random forest.

    Returns
    -------
    A row for each class and metric, and for all cells together (level ``"all"``), with the columns ``level``,
    ``metric``, ``best`` (the value that a perfect generator would have), ``n_cells``, ``generated``, ``real cells``,
    ``Gaussian copula``, ``independent genes``, and ``reference``, what the held-out cells themselves have. Expression
    is log1p of counts per as many as the median training cell has of these genes. The metrics are

    * ``rf_auc``: AUROC of a random forest that tells the cells from held-out ones by their genes;
    * ``energy``: energy distance on 30 principal components; for all together the mean over classes;
    * ``correlation``: correlation of the gene-gene correlations within classes with those of held-out cells, of the 150
      genes with the highest means;
    * ``mean_error``: mean absolute difference of the genes' means;
    * ``variance_ratio``: median over genes of the variance beside that of held-out cells, of genes that a tenth of
      these express;
    * ``zeros``: share of counts that are 0;
    * ``slope_<column>``: slope of log-fold changes on those of the held-out cells, of the 100 genes that change most
      there, from classes that differ in this column alone to the class; the largest changes of held-out cells are so by
      chance too, so that real cells have a slope below 1;
    * ``tstr_f1``: F1 on held-out cells of a logistic regression trained on the cells; macro-F1 for all together;
    * ``as_asked``: share of the cells for which a logistic regression trained on real cells predicts their class;
    * ``nn_ratio``: median distance to the nearest training cell, beside that of held-out cells; below 1 are cells that
      lie nearer to training cells than others do;
    * ``attack_auroc``: AUROC of telling training from held-out cells by their distance to the nearest generated cell;
      above 0.5 cells give away who was in training, below held-out cells lie nearer, as those of other donors may. An
      attack that fails proves no privacy. Both are measured on 30 principal components of all three sets.

    Writes ``uns["polygene"]["check_generated"]`` of `adata`: this table and the arguments. Read it with
    :func:`~polygene_scverse.get.check_generated`, draw it with :func:`~polygene_scverse.pl.check_generated`.

    Raises
    ------
    KeyError
        If a column or layer is not there.
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
    columns = [groupby] if isinstance(groupby, str) else [str(name) for name in groupby]
    sets = read_sets(adata, reference, training, columns, n_genes=n_genes, max_cells=max_cells, layer=layer, seed=seed)
    if sets.left_out:
        warnings.warn(
            f"`groupby`: {shorten(sets.left_out)} are left out, because fewer than {sets.needed} cells have them on "
            "one side.",
            UserWarning,
            stacklevel=2,
        )
    table = compare(sets.generated, sets.reference, sets.real, sets.labels, members=training is not None, seed=seed)
    note = {"groupby": columns, "n_genes": len(sets.genes), "training": training is not None, "seed": seed}
    write_notes(adata, **{CHECK_GENERATED: {"table": table, **note}})
    return table.copy()
