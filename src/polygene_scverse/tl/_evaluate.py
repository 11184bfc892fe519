"""The model beside baselines on cells of groups that none of them has seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from anndata import AnnData
from rich.console import Console

from polygene_scverse._constants import BALANCE
from polygene_scverse._validate import check_notes, check_writable, write_notes
from polygene_scverse.evaluation._baselines import choose_baselines
from polygene_scverse.evaluation._evaluate import Evaluation, evaluate_folds, evaluate_model
from polygene_scverse.evaluation._folds import Split, Training, resolve_columns
from polygene_scverse.model import Polygene
from polygene_scverse.tl._models import find


def evaluate(
    adata: AnnData,
    *,
    group_key: str | None = None,
    phenotypes: str | Sequence[str] | None = None,
    split: Split = 5,
    baselines: str | Sequence[str] | None = None,
    n_bootstrap: int = 1000,
    n_null: int = 0,
    seed: int = 0,
    model: Polygene | str | Path | None = None,
    train_kwargs: Mapping[str, Any] | None = None,
) -> pd.DataFrame:
    """Score the model beside baselines on groups (donors, samples) that were not in training.

    In each fold genes, bin edges, calibration and the strength of the baselines' penalties come from the training
    groups only; ranks of genes in ``var`` are not used. Baselines see the model's genes, as log1p of counts per 10,000.
    The predictions of all folds are scored together.

    Parameters
    ----------
    adata
        Cells with recorded phenotypes; expression as for :func:`~polygene_scverse.tl.train`.
    group_key
        Obs column of donors or samples, which are not split between training and test. Without it single cells are
        split, which flatters every method; a printed sentence says so.
    phenotypes
        Obs columns to predict. By default those with a usual name.
    split
        Number of folds, or the row numbers of the training and of the test cells.
    baselines
        Names of the baselines, ``[]`` for none. By default those of scikit-learn: ``"majority"``, ``"kNN on PCs"``,
        ``"logistic regression on HVGs"`` and ``"... on PCs"``, either also as ``"..., balanced"``, ``"boosted trees on
        PCs"``, ``"shrunken LDA on HVGs"``; and ``"CellTypist"`` where it is installed and can be trained. ``"scANVI"``
        (raw counts, slow) runs when named.
    n_bootstrap
        Number of bootstrap samples for the intervals: of test groups where there are five or more, else of cells within
        test groups.
    n_null
        How often to train anew with labels permuted between groups, for phenotypes that are constant within groups:
        what a model scores that can only learn who the donors are.
    seed
        Seed of folds, trainings, bootstrap and permutations.
    model
        A trained model, or the folder it was saved to: nothing is trained then, and what it predicts of these cells is
        scored, beside the shares of the categories in its training. `phenotypes` are the model's then, by default those
        whose columns are there; `split`, `baselines`, `n_null` and `train_kwargs` must not be given. For hidden tokens
        see :func:`~polygene_scverse.tl.score_tokens`.
    train_kwargs
        Passed to :func:`~polygene_scverse.tl.train`, e.g. ``layer``, ``gene_symbols``, ``n_genes``, ``max_epochs``,
        ``model_kwargs``.

    Returns
    -------
    A row for each phenotype, method and score, with the columns ``phenotype``, ``method``, ``score`` (accuracy,
    balanced accuracy, macro-F1, macro-F1 over categories with at least 10 test cells, expected calibration error,
    negative log-likelihood in nats), ``value``, ``low`` and ``high`` (95 % bootstrap interval), ``difference``,
    ``difference_low``, ``difference_high`` (the model minus the method, on the same bootstrap samples), ``verdict``
    (of the model: ``"better"`` or ``"worse"``, where the interval of the difference leaves out 0; ``"level"``; ``""``
    beside the majority), ``n_cells``, ``n_groups``.

    The model's categories are chosen with the default ``balance`` of `predict_phenotype`; ECE and NLL concern the
    probabilities. Cells whose category is not in their training cells are left out, and counted in a sentence.
    Prints sentences that say which baselines are significantly better. Writes ``uns["polygene"]["evaluate"]``: this
    table, ``by_group`` (the same for each test group), ``words`` (the sentences), ``folds`` (number of the fold that a
    cell is tested in, -1 for none; n_obs) and the arguments. Read it with
    :func:`~polygene_scverse.get.evaluation`, draw it with :func:`~polygene_scverse.pl.evaluation`.

    Raises
    ------
    KeyError
        If a column does not exist.
    ValueError
        If a baseline is unknown or cannot run, if there are fewer groups than folds, if a side of the split is empty or
        a group on both sides, if training cells have one category only, or if an argument is given beside `model` that
        it leaves no use for.

    Examples
    --------
    >>> table = pgs.tl.evaluate(adata, group_key="donor", phenotypes=["cell_type", "disease"], n_null=5)
    """
    check_writable(adata)
    check_notes(adata, "evaluate")
    if model is not None:
        unused = {"split": split != 5, "baselines": baselines is not None, "n_null": n_null != 0}
        unused |= {"train_kwargs": train_kwargs is not None}
        if given := [name for name, is_given in unused.items() if is_given]:
            raise ValueError(
                f"`model`: nothing is trained where a model is given, so that {given} have no use. Leave them out, or "
                "leave out model= to train in folds."
            )
        found = evaluate_model(adata, find(adata, model), phenotypes, group_key, n_bootstrap, seed)
        return _write(adata, found, {"group_key": group_key or "", "n_bootstrap": n_bootstrap, "seed": seed})
    names, chosen = resolve_columns(adata, phenotypes, group_key=group_key), choose_baselines(baselines)
    training = Training(group_key, seed, dict(train_kwargs or {}))
    result = evaluate_folds(adata, names, split, training, chosen, n_bootstrap, n_null)
    arguments = {"group_key": group_key or "", "n_bootstrap": n_bootstrap, "n_null": n_null, "seed": seed}
    return _write(adata, result, arguments)


def _write(adata: AnnData, result: Evaluation, arguments: dict[str, Any]) -> pd.DataFrame:
    """Store and print what was found."""
    tables = {"table": result.table, "by_group": result.by_group, "words": result.sentences, "folds": result.folds}
    write_notes(adata, evaluate={**tables, **arguments, "balance": BALANCE})
    Console(soft_wrap=True, highlight=False).print("\n".join(result.sentences), markup=False)
    return result.table.copy()
