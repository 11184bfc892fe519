"""Scores of hidden words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
from anndata import AnnData
from mudata import MuData

from polygene_scverse._constants import BALANCE, TOKENS, note_key
from polygene_scverse._validate import check_key_added, check_notes, write_notes
from polygene_scverse.metrics import confusion_scores
from polygene_scverse.model import MaskingRates, Polygene, TokenCounts
from polygene_scverse.tl._models import anndata_of, find


def score_tokens(
    adata: AnnData | MuData,
    *,
    masking: MaskingRates | Mapping[str, Any] | str | None = None,
    balance: float = BALANCE,
    key_added: str = TOKENS,
    model: Polygene | str | Path | None = None,
    mod: str = "rna",
    seed: int = 0,
    batch_size: int = 64,
) -> pd.DataFrame:
    """Hide words of cells, genes and phenotypes, let the model guess them, and score the guesses.

    These are the scores that the original reports in training and evaluation. Pass cells that the model was not trained
    on, such as held-out donors. Guesses are counted batch by batch: memory does not grow with the number of hidden
    words.

    A guess is one of the words of its slot. By default as many not-expressed genes are hidden as expressed ones, which
    is not the mix of all genes: the logit of bin 0 is corrected by the log of the ratio of the two sampling rates, and
    the column ``zero_offset`` says by how much. With ``masking="original"`` all genes are hidden at one rate and there
    is nothing to correct. Models of the original are shown the mask that they were trained with, which tells of a
    hidden gene whether it is expressed.

    Parameters
    ----------
    adata
        Cells whose words are known; genes are matched by name.
    masking
        How much is hidden. By default as in the validation of the training: genes at the rates of the training, every
        phenotype. ``"original"`` hides 15 % of all genes, and each phenotype with probability 0.5 while the others are
        shown; values of `MaskingRates` are taken as they are.
    balance
        How a category is chosen, as in :func:`~polygene_scverse.tl.predict_phenotype`.
    key_added
        Entry of ``uns["polygene"]`` to write.
    model
        A model, or the folder it was saved to. By default the one last trained on `adata`.
    mod
        Modality to read and write, for MuData.
    seed
        Seed of what is hidden.
    batch_size
        Cells per step.

    Returns
    -------
    Table with a row for all hidden words, for genes (all; the expressed ones; those not expressed; and the bin of
    expressed ones when it is known that they are) and for phenotypes (together and one by one), and the columns
    ``words``, ``of``, ``n`` hidden words, ``n_classes`` that occur, ``accuracy``, macro-averaged ``precision``,
    ``recall`` and ``f1``, and ``zero_offset``, the mean correction of the logit of bin 0. Precision of expressed genes
    counts wrong guesses for genes that are not.

    Writes ``uns["polygene"]["tokens"]``: the table, and the confusion matrices that
    :func:`~polygene_scverse.get.token_confusion` reads and :func:`~polygene_scverse.pl.token_confusion` draws.

    Raises
    ------
    ValueError
        If no model is found, if `masking` or `balance` is out of range, if no gene matches, or if expression has the
        wrong scale.

    Examples
    --------
    >>> pgs.tl.score_tokens(test, model=model)
    >>> pgs.pl.token_confusion(test)
    """
    if not 0.0 <= balance <= 1.0:
        raise ValueError(f"`balance`: found {balance}, but it must be between 0 (most probable) and 1 (balanced).")
    check_key_added(key_added, TOKENS)
    data = anndata_of(adata, mod)
    check_notes(data, key_added, like=TOKENS)
    trained = find(adata, model)
    counts = trained.count_hidden_tokens(data, masking=masking, balance=balance, seed=seed, batch_size=batch_size)
    scores = score_table(counts)
    note = {**note_of(counts, scores, trained.mask_), "seed": seed}
    write_notes(data, **{key_added: note})
    return scores


def score_table(counts: TokenCounts) -> pd.DataFrame:
    """The table that `score_tokens` returns."""
    genes, phenotypes, bins = counts.genes, counts.phenotypes, range(len(counts.genes))
    rows = [
        ("all", "", [genes, *phenotypes.values()], None),
        ("genes", "", [genes], None),
        ("genes", "expressed", [genes], bins[1:]),
        ("genes", "not expressed", [genes], bins[:1]),
        ("genes", "bin of expressed", [counts.expressed], None),
        ("phenotypes", "", list(phenotypes.values()), None),
        *(("phenotypes", name, [matrix], None) for name, matrix in phenotypes.items()),
    ]
    table = pd.DataFrame(
        [{"words": words, "of": of, **confusion_scores(m, classes=classes)} for words, of, m, classes in rows]
    ).astype({"n": int, "n_classes": int})
    corrected = (table["words"] != "phenotypes") & (table["of"] != "bin of expressed")
    return table.assign(zero_offset=corrected.map({True: counts.zero_offset, False: float("nan")}))


def note_of(counts: TokenCounts, scores: pd.DataFrame, mask: str) -> dict[str, Any]:
    """Plain values for ``uns``, which h5ad can hold."""
    return {
        "scores": scores.copy(),
        "genes": counts.genes.to_numpy(),
        "phenotypes": {note_key(name): matrix.to_numpy() for name, matrix in counts.phenotypes.items()},
        "categories": {note_key(name): list(matrix.columns) for name, matrix in counts.phenotypes.items()},
        "rates": asdict(counts.rates),
        "mask": mask,
    }
