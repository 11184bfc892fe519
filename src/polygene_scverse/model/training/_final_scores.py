"""Scores of the finished model in the history, whose curves are those of the transformer during training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import pandas as pd

History = dict[str, pd.DataFrame]
END: Final = "_final"
"""Suffix of the names of these scores."""


def score_name(phenotype: str, score: str) -> str:
    """Name of a phenotype's score in the history; avoids the names of gene scores."""
    return f"{'phenotype_' if phenotype == 'gene' else ''}{phenotype}_{score}"


def without_final_scores(history: Mapping[str, pd.DataFrame] | None) -> History | None:
    """The history without final scores, which do not apply after the weights have changed.

    Parameters
    ----------
    history
        The history, None if there is none.
    """
    return None if history is None else {name: table for name, table in history.items() if not name.endswith(END)}


def with_final_scores(
    history: Mapping[str, pd.DataFrame] | None, scores: Mapping[str, Mapping[str, float]]
) -> History | None:
    """The history with a one-row table, at the last epoch, for each score.

    Parameters
    ----------
    history
        The history, None if there is none.
    scores
        Scores of each phenotype by their names.
    """
    curves = without_final_scores(history)
    if curves is None:
        return None
    last = max((int(table.index[-1]) for table in curves.values() if len(table)), default=0)
    at = pd.Index([last], name="epoch")
    tables = {
        name: pd.DataFrame({name: [value]}, index=at)
        for phenotype, found in scores.items()
        for name, value in ((score_name(phenotype, score) + END, value) for score, value in found.items())
    }
    return curves | tables


def final_sentences(history: Mapping[str, pd.DataFrame] | None, phenotypes: list[str]) -> list[str]:
    """One sentence per phenotype with the scores of the finished model and of the transformer in the last epoch.

    Parameters
    ----------
    history
        The history.
    phenotypes
        Phenotypes of the model; those without scores are omitted.
    """
    sentences = []
    for phenotype in phenotypes:
        names = [score_name(phenotype, score) for score in ("accuracy", "macro_f1")]
        if any(name + END not in (history or {}) for name in names):
            continue
        tables = dict(history or {})
        final = [tables[name + END].to_numpy(dtype=float)[-1, 0] for name in names]
        if pd.isna(final).any():
            sentences.append(f"{phenotype}: not scored, because no held-out cell has a known category.")
            continue
        sentence = f"{phenotype}: accuracy {final[0]:.3f} and macro-F1 {final[1]:.3f} on the held-out cells"
        curves = [name + "_validation" for name in names]
        alone = [tables[name].to_numpy(dtype=float)[-1, 0] for name in curves if name in tables and len(tables[name])]
        without = "the transformer alone, without the linear path"
        comparison = "" if len(alone) < 2 else f" ({without}: {alone[0]:.3f} and {alone[1]:.3f})"
        sentences.append(f"{sentence}{comparison}.")
    return sentences
