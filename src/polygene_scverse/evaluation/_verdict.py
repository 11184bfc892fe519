"""An evaluation in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from polygene_scverse._constants import BALANCE
from polygene_scverse.evaluation._bootstrap import LEAST_GROUPS
from polygene_scverse.evaluation._folds import Labels
from polygene_scverse.evaluation._null import NULL
from polygene_scverse.evaluation._scores import OURS, Answers

NAMES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro-F1",
    "macro_f1_10": "macro-F1 over categories with 10 or more test cells",
    "ece": "ECE",
    "nll": "NLL",
}
HEADLINE = ("macro_f1", "accuracy", "ece")


def say(
    table: pd.DataFrame,
    answers: Mapping[str, Answers],
    labels: Mapping[str, Labels],
    groups: NDArray[np.integer],
    group_key: str | None,
    constant: Sequence[str],
) -> list[str]:
    """Sentences about the test, and about each phenotype: where rivals win, and what the figures cannot say.

    Parameters
    ----------
    table
        As `evaluate` returns it.
    answers
        Of each phenotype.
    labels
        Of each phenotype.
    groups
        Group of each cell; shape (n_obs,).
    group_key
        Column of the groups.
    constant
        Phenotypes that are constant within groups.
    """
    words = [_about_the_test(answers, groups, group_key)]
    for name in labels:
        of_phenotype = table[(table["phenotype"] == name) & (table["method"] != NULL)]
        words += _about_rivals(name, of_phenotype)
        if n := answers[name].n_unseen:
            words.append(f"{name}: {n:,} test cells are of a category without training cells, and left out.")
        if name in constant:
            n_groups = len(np.unique(groups[labels[name].codes >= 0]))
            words.append(
                f"{name}: constant within {group_key!r}, so that there are {n_groups} independent examples, not "
                f"{int((labels[name].codes >= 0).sum()):,}."
            )
            words += _about_null(name, table)
    return words


def _about_the_test(answers: Mapping[str, Answers], groups: NDArray[np.integer], group_key: str | None) -> str:
    rows = next(iter(answers.values())).rows
    choice = f"our categories are chosen with balance={BALANCE}"
    if group_key is None:
        return (
            f"{len(rows):,} test cells, split as single cells: training cells come from the same donors, so that every "
            f"figure is an upper bound. Pass group_key= for new donors. Intervals: bootstrap over cells; {choice}."
        )
    n_groups = len(np.unique(groups[rows]))
    unit = "groups" if n_groups >= LEAST_GROUPS else f"cells within groups, as there are fewer than {LEAST_GROUPS}"
    held_out = f"{n_groups} held-out group{'s' * (n_groups > 1)} of {group_key!r}"
    return f"{len(rows):,} test cells of {held_out}. Bootstrap over {unit}; {choice}."


def _about_rivals(phenotype: str, table: pd.DataFrame) -> list[str]:
    rivals = [method for method in table["method"].unique() if method != OURS]
    if not rivals:
        return []
    lost = table[table["verdict"] == "worse"]
    if lost.empty:
        return [f"{phenotype}: no rival is better than ours in any score by more than chance."]
    words = []
    for method, rows in lost.groupby("method", sort=False):
        parts = [
            f"{NAMES[r['score']]} ({r['value']:.3f}, ours {r['value'] + r['difference']:.3f}, difference "
            f"{r['difference']:.3f} [{r['difference_low']:.3f}, {r['difference_high']:.3f}])"
            for r in rows.to_dict("records")
            if r["score"] != "macro_f1_10" or "macro_f1" not in set(rows["score"])
        ]
        all_three = " It wins in macro-F1, accuracy and ECE at once." if set(HEADLINE) <= set(rows["score"]) else ""
        words.append(f"{phenotype}: {method} beats ours in {', '.join(parts)}.{all_three}")
    return words


def _about_null(phenotype: str, table: pd.DataFrame) -> list[str]:
    """Whether ours is above all permutations in accuracy."""
    scores = table[(table["phenotype"] == phenotype) & (table["score"] == "balanced_accuracy")].set_index("method")
    if NULL not in scores.index:
        return []
    ours, null = float(scores["value"][OURS]), scores.loc[NULL].to_dict()
    better = ours > null["high"]
    verdict = "above every permutation" if better else "no better than with permuted labels: no evidence of a signal"
    return [
        f"{phenotype}: balanced accuracy {ours:.3f}; with labels permuted between groups {null['value']:.3f} "
        f"({null['low']:.3f} to {null['high']:.3f}): {verdict}."
    ]
