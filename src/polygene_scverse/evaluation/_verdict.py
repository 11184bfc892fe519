"""Description of an evaluation in sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from polygene_scverse._constants import BALANCE
from polygene_scverse.evaluation._bootstrap import MIN_GROUPS
from polygene_scverse.evaluation._folds import Labels
from polygene_scverse.evaluation._null import NULL
from polygene_scverse.evaluation._predictions import MODEL, Predictions
from polygene_scverse.evaluation._scikit_learn import MAJORITY
from polygene_scverse.evaluation._scores import HERE

SCORE_NAMES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro-F1",
    "macro_f1_10": "macro-F1 over categories with 10 or more test cells",
    "ece": "ECE",
    "nll": "NLL",
}
HEADLINE = {"macro_f1", "accuracy", "ece"}
FEW_GROUPS = " Intervals and comparisons hold for these groups, and say little about others."


def describe_evaluation(
    table: pd.DataFrame,
    predictions: Mapping[str, Predictions],
    labels: Mapping[str, Labels],
    groups: NDArray[np.integer],
    group_key: str | None,
    constant: Sequence[str],
) -> list[str]:
    """Describe the test and the result for each phenotype: baselines that are better, and limits of the scores.

    Parameters
    ----------
    table
        As returned by `evaluate`.
    predictions
        Predictions for each phenotype.
    labels
        Labels of each phenotype.
    groups
        Group of each cell; shape (n_obs,).
    group_key
        Column of the groups.
    constant
        Phenotypes that are constant within groups.
    """
    sentences = [_describe_test(next(iter(predictions.values())), groups, group_key)]
    for name, label in labels.items():
        rows = table[table["phenotype"] == name]
        sentences += _describe_scores(name, rows[~rows["method"].isin([NULL, MAJORITY])])
        sentences += _describe_baselines(name, rows[rows["method"] != NULL])
        tested = predictions[name]
        if n_unseen := int(((label.codes[tested.rows] >= 0) & (tested.codes < 0)).sum()):
            sentences.append(
                f"{name}: {n_unseen:,} test cells have a category without training cells and are left out."
            )
        if name in constant:
            known = label.codes >= 0
            sentences.append(
                f"{name}: constant within {group_key!r}, so there are {len(np.unique(groups[known]))} independent "
                f"observations, not {int(known.sum()):,}."
            )
            sentences += _describe_null(name, rows)
    return sentences


def describe_model(
    predictions: Mapping[str, Predictions],
    recorded: Mapping[str, Labels],
    groups: NDArray[np.integer],
    group_key: str | None,
) -> list[str]:
    """Describe the scores of a trained model.

    Parameters
    ----------
    predictions, groups, group_key
        As for `describe_evaluation`.
    recorded
        Labels of each phenotype with all categories of the cells.
    """
    unit, limits = "cells", ""
    if group_key is not None:
        n_groups = len(np.unique(groups))
        limits = FEW_GROUPS if n_groups < MIN_GROUPS else ""
        unit = f"the {n_groups} groups of {group_key!r}" if n_groups >= MIN_GROUPS else _unit(n_groups)
    sentences = [
        f"{len(groups):,} cells, predicted by a trained model; the scores hold for new donors only if no cells of "
        f"these donors were used in training. Bootstrap over {unit}; categories of the model are chosen with "
        f"balance={BALANCE}.{limits}"
    ]
    for name, found in predictions.items():
        if n_left := int(((recorded[name].codes >= 0) & (found.codes < 0)).sum()):
            sentences.append(f"{name}: {n_left:,} cells have a category without training cells and are left out.")
    return sentences


def _describe_test(predictions: Predictions, groups: NDArray[np.integer], group_key: str | None) -> str:
    n_cells, n_groups = len(predictions.rows), len(np.unique(groups[predictions.rows]))
    choice = f"categories of the model are chosen with balance={BALANCE}"
    if group_key is None:
        return (
            f"{n_cells:,} test cells, split by cell: training cells are from the same donors, so scores on new donors "
            f"will be lower. Pass group_key= to split by donor. Intervals: bootstrap over cells; {choice}."
        )
    held_out = f"{n_groups} held-out group{'s' * (n_groups > 1)} of {group_key!r}"
    limits = FEW_GROUPS if n_groups < MIN_GROUPS else ""
    return f"{n_cells:,} test cells of {held_out}. Bootstrap over {_unit(n_groups)}; {choice}.{limits}"


def _unit(n_groups: int) -> str:
    """Unit of the bootstrap if groups are known."""
    return (
        "groups" if n_groups >= MIN_GROUPS else f"cells within groups, because there are fewer than {MIN_GROUPS} groups"
    )


def _describe_scores(phenotype: str, table: pd.DataFrame) -> list[str]:
    """Describe accuracy and macro-F1 of the model with intervals, and the best baseline in each."""
    texts = []
    for score in ("accuracy", "macro_f1"):
        rows = table[table["score"] == score].set_index("method")
        if MODEL not in rows.index or rows["value"].isna().all():
            continue
        own, others = rows.loc[MODEL], rows.drop(index=MODEL)["value"].dropna()
        best = "" if others.empty else f", best baseline {others.max():.3f} ({others.idxmax()})"
        ends = "" if np.isnan(own["low"]) else f" [{own['low']:.3f}, {own['high']:.3f}]"
        texts.append(f"{SCORE_NAMES[score]} {own['value']:.3f}{ends}{best}")
    return [f"{phenotype}: {'; '.join(texts)}."] if texts else []


def _describe_baselines(phenotype: str, table: pd.DataFrame) -> list[str]:
    if (table["method"] == MODEL).all():
        return []
    lost = table[table["verdict"].str.startswith("worse")]
    if table["difference_low"].isna().all():
        return [f"{phenotype}: differences from the baselines have no intervals, so they were not tested."]
    if lost.empty:
        return [f"{phenotype}: no baseline is significantly better than the model in any score."]
    few_groups = lost["verdict"].str.endswith(HERE).any()
    is_better = f"is better than the model{HERE}," if few_groups else "is significantly better than the model"
    sentences = []
    for method, rows in lost.groupby("method", sort=False):
        scores = set(rows["score"])
        figures = [
            f"{SCORE_NAMES[row['score']]} ({row['value']:.3f}, the model {row['value'] + row['difference']:.3f}, "
            f"difference {row['difference']:.3f} [{row['difference_low']:.3f}, {row['difference_high']:.3f}])"
            for row in rows.to_dict("records")
            if row["score"] != "macro_f1_10" or "macro_f1" not in scores
        ]
        headline = " It is better in macro-F1, accuracy and ECE at once." if scores >= HEADLINE else ""
        sentences.append(f"{phenotype}: {method} {is_better} in {', '.join(figures)}.{headline}")
    return sentences


def _describe_null(phenotype: str, table: pd.DataFrame) -> list[str]:
    """Describe whether the model's balanced accuracy is above that of all permutations."""
    scores = table[table["score"] == "balanced_accuracy"].set_index("method")
    if NULL not in scores.index:
        return []
    value, null = float(scores["value"][MODEL]), scores.loc[NULL].to_dict()
    above = value > null["high"]
    verdict = "above every permutation" if above else "no better than with permuted labels: no evidence of a signal"
    return [
        f"{phenotype}: balanced accuracy {value:.3f}; with labels permuted between groups {null['value']:.3f} "
        f"({null['low']:.3f} to {null['high']:.3f}): {verdict}."
    ]
