"""What a model scores that can only learn who the donors are: labels permuted between groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray

from polygene_scverse.evaluation._bootstrap import SCORES, scores_of, sums_by_cell
from polygene_scverse.evaluation._folds import Labels, cells_of, fill_columns, group_codes, train_fold
from polygene_scverse.evaluation._scores import OURS, Answers, large_categories

NULL = "Polygene, labels permuted between groups"
Folds = Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]]


def permute(label: Labels, groups: NDArray[np.integer], order: NDArray[np.integer]) -> NDArray[np.int64]:
    """Codes after each group has taken the category of another; shape (n_obs,).

    Cells without a value stay without.

    Parameters
    ----------
    label
        Categories that are constant within groups.
    groups
        Group of each cell; shape (n_obs,).
    order
        Of each group whose category it takes; a permutation of shape (n_groups,).
    """
    names, members = np.unique(groups, return_inverse=True)
    of_group = np.full(len(names), -1)
    np.maximum.at(of_group, members, label.codes)
    known = np.flatnonzero(of_group >= 0)
    taken = of_group.copy()
    taken[known] = of_group[known][np.argsort(order[known])]
    return np.where(label.codes >= 0, taken[members], -1)


def null_rows(
    adata: AnnData,
    folds: Folds,
    labels: Mapping[str, Labels],
    group_key: str | None,
    n: int,
    seed: int,
    train_kwargs: Mapping[str, Any],
) -> list[dict[str, Any]]:
    """Mean, lowest and highest score over permutations, a row per phenotype and score.

    Permutations that leave a fold with one category are drawn again, and given up after a hundred draws.

    Parameters
    ----------
    adata
        The cells.
    folds
        Training and test rows.
    labels
        Phenotypes that are constant within groups.
    group_key
        Column of the groups.
    n
        Number of permutations.
    seed
        Seed of the permutations and trainings.
    train_kwargs
        Passed to `train`.
    """
    if not labels or n < 1:
        return []
    rng, groups = np.random.default_rng(seed), group_codes(adata.obs, group_key)
    found: dict[str, list[NDArray[np.float64]]] = {name: [] for name in labels}
    for i in range(n):
        permuted = _draw(labels, groups, folds, rng)
        for name, values in _scores(adata, permuted, folds, group_key, seed + i, train_kwargs).items():
            found[name].append(values)
    nan = float("nan")
    rows = []
    for name, samples in found.items():
        table = np.array(samples)  # (n, 6)
        for j, score in enumerate(SCORES):
            row = {"phenotype": name, "method": NULL, "score": score, "value": table[:, j].mean()}
            row |= {"low": table[:, j].min(), "high": table[:, j].max(), "difference": nan}
            row |= {"difference_low": nan, "difference_high": nan, "verdict": ""}
            known = labels[name].codes >= 0
            rows.append(row | {"n_cells": int(known.sum()), "n_groups": len(np.unique(groups[known]))})
    return rows


def _draw(
    labels: Mapping[str, Labels], groups: NDArray[np.integer], folds: Folds, rng: np.random.Generator
) -> dict[str, Labels]:
    n_groups = len(np.unique(groups))
    for _ in range(100):
        order = rng.permutation(n_groups)
        permuted = {name: Labels(label.names, permute(label, groups, order)) for name, label in labels.items()}
        codes = [label.codes[rows] for label in permuted.values() for rows, _ in folds]
        if all(len(np.unique(c[c >= 0])) > 1 for c in codes):
            return permuted
    raise ValueError(
        f"`n_null`: a hundred permutations of the categories of {list(labels)} between {n_groups} groups left a fold "
        "with one category. There are too few groups for a null: pass n_null=0."
    )


def _scores(
    adata: AnnData,
    labels: Mapping[str, Labels],
    folds: Folds,
    group_key: str | None,
    seed: int,
    train_kwargs: Mapping[str, Any],
) -> dict[str, NDArray[np.float64]]:
    """Scores of ours, trained and tested on permuted labels."""
    columns = {name: _column(label, adata.obs_names) for name, label in labels.items()}
    if adata.isbacked:
        adata = adata.to_memory()
    data = AnnData(adata.X, obs=adata.obs.assign(**columns), var=adata.var, layers=dict(adata.layers), raw=adata.raw)
    parts: dict[str, list[Answers]] = {name: [] for name in labels}
    for train_rows, test_rows in folds:
        model, _ = train_fold(data, train_rows, list(labels), group_key=group_key, seed=seed, train_kwargs=train_kwargs)
        tables = model.predict_phenotype(cells_of(data, test_rows))
        decided = model.decide(tables)
        for name, label in labels.items():
            codes = label.codes[test_rows]
            codes = np.where(np.isin(codes, label.codes[train_rows]), codes, -1)
            answer = Answers(test_rows, codes, codes >= 0)
            predicted = pd.Index(label.names).get_indexer(pd.Index(decided[name].astype(str)))
            answer.add(OURS, fill_columns(tables[name], label.names), predicted)
            parts[name].append(answer)
    return {name: _values(Answers.join(answers).known()) for name, answers in parts.items()}


def _values(answers: Answers) -> NDArray[np.float64]:
    proba = answers.probabilities[OURS]
    sums = sums_by_cell(answers.codes, proba, answers.predicted[OURS])
    return scores_of(np.asarray(sums.sum(axis=0)).ravel(), large_categories(answers.codes, proba.shape[1]))


def _column(label: Labels, index: pd.Index) -> pd.Series:
    return pd.Series(pd.Categorical.from_codes(label.codes, categories=pd.Index(label.names)), index=index)
