"""The model beside its rivals on cells of groups that none of them has seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray
from rich.console import Console

from polygene_scverse._constants import BALANCE
from polygene_scverse._validate import check_columns, check_notes, write_notes
from polygene_scverse.data.read._phenotypes import candidates, resolve_phenotypes
from polygene_scverse.evaluation._baselines import choose_rivals, make_side, run_rival
from polygene_scverse.evaluation._folds import Labels, fill_columns, group_codes, make_folds, train_fold
from polygene_scverse.evaluation._null import null_rows
from polygene_scverse.evaluation._scores import OURS, Answers, group_rows, score_rows
from polygene_scverse.evaluation._verdict import say
from polygene_scverse.model import Polygene
from polygene_scverse.tl._score_tokens import score_tokens


def evaluate(
    adata: AnnData,
    *,
    group_key: str | None = None,
    phenotypes: str | Sequence[str] | None = None,
    split: int | tuple = 5,
    rivals: str | Sequence[str] | None = None,
    n_bootstrap: int = 1000,
    n_null: int = 0,
    seed: int = 0,
    model: Polygene | str | Path | None = None,
    train_kwargs: Mapping[str, Any] | None = None,
) -> pd.DataFrame:
    """Score the model beside its rivals on groups (donors, samples) that were not in training.

    In each fold genes, bin edges, calibration and the strength of the rivals' penalties come from the training groups
    only; ranks of genes in ``var`` are not used. Rivals see the model's genes, as log1p of counts per 10,000. The
    predictions of all folds are scored together.

    Parameters
    ----------
    adata
        Cells with recorded phenotypes; expression as for :func:`~polygene_scverse.tl.train`.
    group_key
        Obs column of donors or samples, which are not split between training and test. Without it single cells are
        split, which flatters every method, and is said.
    phenotypes
        Obs columns to predict. By default those with a usual name.
    split
        Number of folds, or the row numbers of the training and of the test cells.
    rivals
        Names of the rivals, ``[]`` for none. By default those of scikit-learn: ``"majority"``, ``"kNN on PCs"``,
        ``"logistic regression on HVGs"`` and ``"... on PCs"``, either also as ``"..., balanced"``, ``"boosted trees on
        PCs"``; and ``"CellTypist"`` where it is installed and can be trained. ``"scANVI"`` (raw counts, slow) runs
        when named.
    n_bootstrap
        Number of bootstrap samples for the intervals: of test groups where there are five or more, else of cells within
        test groups.
    n_null
        How often to train anew with labels permuted between groups, for phenotypes that are constant within groups:
        what a model scores that can only learn who the donors are.
    seed
        Seed of folds, trainings, bootstrap and permutations.
    model
        A trained model, or the folder it was saved to: nothing is trained then, and its scores on hidden words of these
        cells are returned, as :func:`~polygene_scverse.tl.score_tokens` does with `seed`.
    train_kwargs
        Passed to :func:`~polygene_scverse.tl.train`, e.g. ``layer``, ``n_genes``, ``max_epochs``, ``model_kwargs``.

    Returns
    -------
    A row for each phenotype, method and score, with the columns ``phenotype``, ``method``, ``score`` (accuracy,
    balanced accuracy, macro-F1, macro-F1 over categories with at least 10 test cells, expected calibration error,
    negative log-likelihood in nats), ``value``, ``low`` and ``high`` (95 % bootstrap interval), ``difference``,
    ``difference_low``, ``difference_high`` (ours minus the method's, on the same bootstrap samples), ``verdict``
    (``"better"``, ``"worse"``: the interval of the difference leaves out 0, seen from ours; ``"level"``; ``""`` for the
    majority), ``n_cells``, ``n_groups``.

    Our categories are chosen with the default ``balance`` of `predict_phenotype`; ECE and NLL concern the
    probabilities. Cells whose category is not in their training cells are left out, and counted in what is said.
    Prints in words where a rival wins. Writes ``uns["polygene"]["evaluate"]``: this table, ``by_group`` (the same for
    each test group), ``words``, ``folds`` (number of the fold that a cell is tested in, -1 for none; n_obs) and the
    arguments. Read it with :func:`~polygene_scverse.get.evaluation`, draw it with
    :func:`~polygene_scverse.pl.evaluation`.

    Raises
    ------
    KeyError
        If a column does not exist.
    ValueError
        If a rival is unknown or cannot run, if there are fewer groups than folds, if a side of the split is empty or a
        group on both sides, or if training cells have one category only.

    Examples
    --------
    >>> table = pgs.tl.evaluate(adata, group_key="donor", phenotypes=["cell_type", "disease"], n_null=5)
    """
    if model is not None:
        return score_tokens(adata, model=model, seed=seed)
    check_notes(adata, "evaluate")
    names, chosen = resolve_phenotypes(adata.obs, phenotypes), choose_rivals(rivals)
    if group_key is not None:
        check_columns([group_key], adata, "group_key", candidates)
    labels = {name: Labels.of(adata.obs[name]) for name in names}
    folds = make_folds(adata.obs, group_key, split, labels, seed)
    groups, kwargs = group_codes(adata.obs, group_key), dict(train_kwargs or {})
    answers = [_fold_answers(adata, rows, labels, group_key, groups, chosen, seed, kwargs) for rows in folds]
    joined = {name: Answers.join([a[name] for a in answers]) for name in names}
    in_groups = groups if group_key is not None else np.zeros_like(groups)
    table = pd.DataFrame(
        [row for name in names for row in score_rows(name, joined[name], in_groups, n_bootstrap, seed)]
    )
    constant = [name for name in names if group_key is not None and labels[name].constant_within(groups)]
    null = null_rows(adata, folds, {name: labels[name] for name in constant}, group_key, n_null, seed, kwargs)
    table = pd.concat([table, pd.DataFrame(null, columns=table.columns)], ignore_index=True) if null else table
    words = say(table, joined, labels, groups, group_key, constant)
    by_group = [] if group_key is None else group_rows(joined, groups, adata.obs[group_key])
    tested = np.full(adata.n_obs, -1)
    for i, (_, test) in enumerate(folds):
        tested[test] = i
    note = {"table": table, "by_group": pd.DataFrame(by_group), "words": words, "folds": tested}
    settings = {"group_key": group_key or "", "n_bootstrap": n_bootstrap, "n_null": n_null, "seed": seed}
    write_notes(adata, evaluate={**note, **settings, "balance": BALANCE})
    Console(soft_wrap=True, highlight=False).print("\n".join(words), markup=False)
    return table.copy()


def _fold_answers(
    adata: AnnData,
    rows: tuple[NDArray[np.int64], NDArray[np.int64]],
    labels: Mapping[str, Labels],
    group_key: str | None,
    groups: NDArray[np.int64],
    rivals: Sequence[str],
    seed: int,
    kwargs: Mapping[str, Any],
) -> dict[str, Answers]:
    """Train all methods on one side of a fold and predict the other; answers by phenotype."""
    model, side = train_fold(adata, rows[0], list(labels), group_key=group_key, seed=seed, train_kwargs=kwargs)
    test = adata[rows[1]].copy()
    answers = _our_answers(model, test, rows, labels)
    if rivals:
        where = {"layer": kwargs.get("layer"), "use_raw": kwargs.get("use_raw", False)}
        train_side, test_side = (make_side(model, cells, **where) for cells in (side, test))
        of_train = None if group_key is None else groups[rows[0]]
        for name, label in labels.items():
            for rival in rivals:
                codes, n = label.codes[rows[0]], len(label.names)
                proba = run_rival(rival, train_side, codes, of_train, test_side, n, seed)
                answers[name].add(rival, proba, proba.argmax(axis=1))
    return answers


def _our_answers(
    model: Polygene, test: AnnData, rows: tuple[NDArray[np.int64], NDArray[np.int64]], labels: Mapping[str, Labels]
) -> dict[str, Answers]:
    tables = model.predict_phenotype(test)
    decided = model.decide(tables)
    answers = {}
    for name, label in labels.items():
        seen = np.isin(label.codes[rows[1]], label.codes[rows[0]][label.codes[rows[0]] >= 0])
        answers[name] = Answers(rows[1], np.where(seen, label.codes[rows[1]], -1), label.codes[rows[1]] >= 0)
        predicted = pd.Index(label.names).get_indexer(pd.Index(decided[name].astype(str)))
        answers[name].add(OURS, fill_columns(tables[name], label.names), predicted)
    return answers
