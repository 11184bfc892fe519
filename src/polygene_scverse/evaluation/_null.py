"""Null scores from labels permuted between groups, for which a model can only learn to recognise the donors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray

from polygene_scverse.evaluation._bootstrap import SCORES
from polygene_scverse.evaluation._folds import Codes, Fold, Labels, Training, group_codes
from polygene_scverse.evaluation._predictions import MODEL, predict_folds
from polygene_scverse.evaluation._scores import Row, method_scores

NULL = "Polygene, labels permuted between groups"
MAX_DRAWS = 100


def permute_labels(label: Labels, groups: NDArray[np.integer], order: NDArray[np.integer]) -> Codes:
    """Codes after exchanging the categories of groups; shape (n_obs,).

    Cells without a value are left without one.

    Parameters
    ----------
    label
        Categories that are constant within groups.
    groups
        Group of each cell; shape (n_obs,).
    order
        Permutation of the groups that determines whose category each group gets; shape (n_groups,).
    """
    names, members = np.unique(groups, return_inverse=True)
    group_category = np.full(len(names), -1)
    np.maximum.at(group_category, members, label.codes)
    known = np.flatnonzero(group_category >= 0)
    taken = group_category.copy()
    taken[known] = group_category[known][np.argsort(order[known])]
    return np.where(label.codes >= 0, taken[members], -1)


def null_rows(
    adata: AnnData, folds: Sequence[Fold], labels: Mapping[str, Labels], training: Training, n: int
) -> list[Row]:
    """Mean, lowest and highest score over permutations, one row per phenotype and score.

    Permutations with a single category in the training cells of a fold are redrawn, up to a hundred times.

    Parameters
    ----------
    adata
        The cells.
    folds
        Training and test rows.
    labels
        Phenotypes that are constant within groups.
    training
        Training settings. The seed is also that of the permutations, and training i uses ``seed + i``.
    n
        Number of permutations.
    """
    if not labels or n < 1:
        return []
    adata = adata.to_memory() if adata.isbacked else adata
    rng, groups = np.random.default_rng(training.seed), group_codes(adata.obs, training.group_key)
    samples: dict[str, list[NDArray[np.float64]]] = {name: [] for name in labels}
    with training.progress("permutations", n) as advance:
        for i in range(n):
            permuted = draw_permutation(labels, groups, folds, rng)
            seeded = replace(training, seed=training.seed + i)
            for name, predictions in predict_folds(with_labels(adata, permuted), folds, permuted, seeded, ()).items():
                samples[name].append(method_scores(predictions.known(), MODEL))
            advance(1)
    rows = []
    for name, label in labels.items():
        table, known = np.array(samples[name]), label.codes >= 0  # (n, 6), (n_obs,)
        size = {"n_cells": int(known.sum()), "n_groups": len(np.unique(groups[known]))}
        for score, values in zip(SCORES, table.T, strict=True):
            row = {"phenotype": name, "method": NULL, "score": score, "value": values.mean()}
            row |= {"low": values.min(), "high": values.max(), "verdict": ""} | size
            rows.append(row | dict.fromkeys(("difference", "difference_low", "difference_high"), float("nan")))
    return rows


def draw_permutation(
    labels: Mapping[str, Labels], groups: NDArray[np.integer], folds: Sequence[Fold], rng: np.random.Generator
) -> dict[str, Labels]:
    """Permute the labels of all phenotypes in the same way, with two categories of each in all training cells."""
    n_groups = len(np.unique(groups))
    for _ in range(MAX_DRAWS):
        order = rng.permutation(n_groups)
        permuted = {
            name: Labels(label.categories, permute_labels(label, groups, order)) for name, label in labels.items()
        }
        train_codes = [label.codes[rows] for label in permuted.values() for rows, _ in folds]
        if all(len(np.unique(codes[codes >= 0])) > 1 for codes in train_codes):
            return permuted
    raise ValueError(
        f"`n_null`: a hundred permutations of the categories of {list(labels)} between {n_groups} groups left a fold "
        "with one category. There are too few groups for a null: pass n_null=0."
    )


def with_labels(adata: AnnData, labels: Mapping[str, Labels]) -> AnnData:
    """Return the same expression with other labels in ``obs``."""
    columns = {
        name: pd.Series(
            pd.Categorical.from_codes(label.codes, categories=pd.Index(label.categories)), index=adata.obs_names
        )
        for name, label in labels.items()
    }
    return AnnData(
        adata.X,
        obs=adata.obs.assign(**columns),
        var=adata.var,
        uns=dict(adata.uns),
        layers=dict(adata.layers),
        raw=adata.raw,
    )
