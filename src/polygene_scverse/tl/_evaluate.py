"""Score the model and baselines on held-out groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from anndata import AnnData
from mudata import MuData
from rich.console import Console

from polygene_scverse._constants import BALANCE
from polygene_scverse._validate import check_kwargs, check_notes, check_seed, check_whole, warn_once, write_notes
from polygene_scverse.evaluation._baselines import choose_baselines
from polygene_scverse.evaluation._evaluate import Evaluation, evaluate_folds, evaluate_model
from polygene_scverse.evaluation._folds import Split, Training, resolve_columns
from polygene_scverse.model import Polygene
from polygene_scverse.tl._models import anndata_of, check_unused, find


def evaluate(
    adata: AnnData | MuData,
    *,
    group_key: str | None = None,
    phenotypes: str | Sequence[str] | None = None,
    split: Split = 5,
    baselines: str | Sequence[str] | None = None,
    n_bootstrap: int = 1000,
    n_null: int = 0,
    model: Polygene | str | Path | None = None,
    layer: str | None = None,
    use_raw: bool = False,
    gene_symbols: str | None = None,
    gene_ids: str | None = None,
    mod: str | None = None,
    seed: int = 0,
    train_kwargs: Mapping[str, Any] | None = None,
) -> pd.DataFrame:
    """Score the model and baselines by cross-validation over groups (donors, samples).

    In each fold, genes, bin edges, calibration and the regularisation of the baselines are chosen on the training
    groups only; gene ranks in ``var`` are not used. Baselines use the same genes as the model, as log1p of counts per
    10,000. The predictions of all folds are scored together.

    Parameters
    ----------
    adata
        Cells with recorded phenotypes; expression as for :func:`~polygene_scverse.tl.train`.
    group_key
        Obs column of donors or samples, which are kept on one side of each split. Without it single cells are split,
        which overestimates the accuracy on new donors for every method; a message says so.
    phenotypes
        Obs columns to predict. By default, columns with a common name.
    split
        Number of folds, or the row numbers of the training and the test cells.
    baselines
        Names of the baselines, ``[]`` for none. By default, those from scikit-learn: ``"majority"``, ``"kNN on PCs"``,
        ``"logistic regression on HVGs"`` and ``"... on PCs"``, both also as ``"..., balanced"``, ``"boosted trees on
        PCs"``, ``"shrunken LDA on HVGs"``; and ``"CellTypist"`` if it is installed and can be trained. ``"scANVI"``
        (raw counts, slow) runs only if named.
    n_bootstrap
        Number of bootstrap samples for the intervals. Test groups are resampled if there are five or more, otherwise
        cells within test groups.
    n_null
        Number of trainings with labels permuted between groups, for phenotypes that are constant within groups. This
        gives the score of a model that can only recognise donors.
    model
        A trained model, or the folder it was saved to. Its predictions for these cells are scored and nothing is
        trained; the only baseline is the category frequencies of its training data. `phenotypes` are then phenotypes of
        the model, by default those that are in obs, and `split`, `baselines`, `n_null`, `layer`, `use_raw` and
        `train_kwargs` cannot be used. To score hidden tokens, see :func:`~polygene_scverse.tl.score_tokens`.
    layer, use_raw
        Source of expression, as in :func:`~polygene_scverse.tl.train`. A trained model reads it where it was trained.
    gene_symbols, gene_ids
        Columns of ``var`` with the gene names to use instead of ``var_names``, see :func:`~polygene_scverse.tl.train`;
        with `model`, tried before ``var_names``.
    mod
        Modality to use, for MuData; by default the one that the model was trained on, or ``"rna"``.
    seed
        Random seed for folds, trainings, bootstrap and permutations.
    train_kwargs
        Arguments of :func:`~polygene_scverse.tl.train` as a dictionary, e.g. ``{"max_epochs": 2, "n_genes": 1000}`` for
        a faster evaluation.

    Returns
    -------
    Table with a row for each phenotype, method and score, and the columns ``phenotype``, ``method``, ``score``
    (accuracy, balanced accuracy, macro-F1, macro-F1 over categories with at least 10 test cells, expected calibration
    error, negative log-likelihood in nats), ``value``, ``low`` and ``high`` (95 % bootstrap interval), ``difference``,
    ``difference_low``, ``difference_high`` (the model minus the method, on the same bootstrap samples), ``verdict``
    (``"better"`` or ``"worse"`` if the interval of the difference excludes 0 in favour of or against the model,
    otherwise ``"not significant"``; ``""`` for the majority baseline), ``n_cells``, ``n_groups``. With fewer than five
    test groups the verdict is ``"better in these groups"`` or ``"worse in these groups"``: cells of a donor are not
    replicates, so the interval does not account for differences between donors.

    Categories are chosen with the default ``balance`` of `predict_phenotype`; ECE and NLL are computed from the
    probabilities. Cells whose category is not among the training cells are left out, and their number is printed.
    Prints accuracy and macro-F1 of the model and of the best baseline, and which baselines are significantly better.
    Writes ``uns["polygene"]["evaluate"]``: this table, ``by_group`` (the same for each test group), ``notes`` (the
    printed messages), ``folds`` (test fold of each cell, -1 for none; n_obs) and the arguments. Read it with
    :func:`~polygene_scverse.get.evaluation` and plot it with :func:`~polygene_scverse.pl.evaluation`.

    Raises
    ------
    KeyError
        If a column or modality does not exist.
    ValueError
        If a baseline is unknown or cannot run, if there are fewer groups than folds, if a side of the split is empty or
        a group is on both sides, if training cells have only one category, or if an argument is passed that has no
        effect together with `model`.

    Examples
    --------
    >>> table = pgs.tl.evaluate(adata, group_key="donor", phenotypes=["cell_type", "disease"], n_null=5)
    >>> quick = pgs.tl.evaluate(adata, group_key="donor", phenotypes="cell_type", train_kwargs={"max_epochs": 2})
    """
    trained = None if model is None else find(adata, model)
    data, names = anndata_of(adata, mod, trained), {"gene_symbols": gene_symbols, "gene_ids": gene_ids}
    check_notes(data, "evaluate")
    check_whole(n_bootstrap, "n_bootstrap")
    check_whole(n_null, "n_null")
    check_seed(seed)
    if trained is not None:
        check_unused(
            split=split != 5,
            baselines=baselines,
            n_null=n_null,
            layer=layer,
            use_raw=use_raw,
            train_kwargs=train_kwargs,
        )
        found = evaluate_model(data, trained, phenotypes, group_key, n_bootstrap, seed, **names)
        return _write(data, found, {"group_key": group_key or "", "n_bootstrap": n_bootstrap, "seed": seed})
    columns, chosen = resolve_columns(data, phenotypes, group_key=group_key), choose_baselines(baselines)
    given = check_kwargs(train_kwargs, "train_kwargs")
    training = Training(group_key, seed, {"layer": layer, "use_raw": use_raw, **names, **given})
    with warn_once():
        result = evaluate_folds(data, columns, split, training, chosen, n_bootstrap, n_null)
    arguments = {"group_key": group_key or "", "n_bootstrap": n_bootstrap, "n_null": n_null, "seed": seed}
    return _write(data, result, arguments)


def _write(adata: AnnData, result: Evaluation, arguments: dict[str, Any]) -> pd.DataFrame:
    """Store and print the result."""
    tables = {"table": result.table, "by_group": result.by_group, "notes": result.sentences, "folds": result.folds}
    write_notes(adata, evaluate={**tables, **arguments, "balance": BALANCE})
    Console(soft_wrap=True, highlight=False).print("\n".join(result.sentences), markup=False)
    return result.table.copy()
