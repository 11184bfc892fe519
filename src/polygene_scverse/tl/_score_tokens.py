"""Score the prediction of hidden tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from mudata import MuData
from numpy.typing import NDArray

from polygene_scverse._constants import BALANCE, TOKENS, TRANSFORMER, note_key
from polygene_scverse._validate import check_key_added, check_notes, write_notes
from polygene_scverse.metrics import confusion_scores
from polygene_scverse.model import MaskingRates, Polygene, TokenCounts
from polygene_scverse.tl._models import cells_and_model


def score_tokens(
    adata: AnnData | MuData,
    *,
    masking: MaskingRates | Mapping[str, Any] | str | None = None,
    given: str | Sequence[str] | None = None,
    hidden_share: float | None = None,
    balance: float = BALANCE,
    key_added: str = TOKENS,
    model: Polygene | str | Path | None = None,
    gene_symbols: str | None = None,
    gene_ids: str | None = None,
    mod: str | None = None,
    seed: int = 0,
    batch_size: int = 128,
) -> pd.DataFrame:
    """Hide tokens of genes and phenotypes, predict them, and score the predictions.

    Computes the scores of the original Polygene's evaluation, and the negative log-likelihood (NLL) of the hidden
    tokens. Pass cells that were not used in training, such as held-out donors. Memory does not grow with the number of
    hidden tokens.

    Phenotypes are predicted by the transformer alone, before calibration. Predictions of
    :func:`~polygene_scverse.tl.predict_phenotype` also use the linear path and are usually better; score those with
    :mod:`polygene_scverse.metrics`.

    Each prediction is one of the tokens of its slot. By default as many not-expressed genes are hidden as expressed
    ones, so the logit of bin 0 is corrected by the log of the ratio of the two sampling rates; the column
    ``zero_offset`` contains the correction. With ``masking="original"`` all genes are hidden at the same rate and
    nothing is corrected. Models imported from the original use the attention mask they were trained with, which reveals
    whether a hidden gene is expressed.

    Parameters
    ----------
    adata
        Cells with recorded phenotypes. Genes are matched by name.
    masking
        Which tokens are hidden. By default as in validation: genes at the training rates, and every phenotype.
        ``"original"`` hides 15 % of all genes, and each phenotype with probability 0.5. Pass `MaskingRates`, or a
        mapping of its values, for other rates.
    given
        Phenotypes to show to the model as recorded, in cells where they are known. They are not scored; compare the NLL
        of genes and of other phenotypes with and without them. By default none is shown.
    hidden_share
        Fraction of the remaining genes, from 0 to 1, that are hidden as well without being scored. The scored genes do
        not depend on it. By default none of them is hidden, unless `masking` has ``gene_dropout``.
    balance
        How a category is chosen, as in :func:`~polygene_scverse.tl.predict_phenotype`.
    key_added
        Key of ``uns["polygene"]`` to write to.
    model
        A model, or the folder it was saved to. By default the one last trained on `adata`.
    gene_symbols, gene_ids
        Columns of ``var`` with gene symbols or Ensembl ids, tried before ``var_names``, see
        :meth:`~polygene_scverse.model.Polygene.gene_names`.
    mod
        Modality to use, for MuData; by default the one that the model was trained on, or ``"rna"``.
    seed
        Random seed for the choice of hidden tokens.
    batch_size
        Number of cells per step.

    Returns
    -------
    Table with rows for all hidden tokens, for genes (all, expressed, not expressed, and the bin of expressed genes
    given that they are expressed) and for phenotypes as predicted by the transformer (together and one by one), and the
    columns ``tokens`` (kind of token), ``of``, ``n`` (number of hidden tokens), ``n_classes`` (number of classes that
    occur), ``accuracy``, macro-averaged ``precision``, ``recall`` and ``f1``, ``zero_offset`` (mean correction of the
    logit of bin 0) and ``nll``. The precision of expressed genes includes wrong predictions for genes that are not
    expressed.

    ``nll`` is the mean negative natural log of the probability of the true token over the hidden tokens of a row; lower
    is better, NaN if nothing was hidden. Bin 0 is corrected as in the training loss, but bins are not smoothed. With
    the default rates, this is the NLL of 15 % of the expressed genes and as many not-expressed ones; the NLL at other
    rates is not comparable, because the mix of genes differs.

    Writes ``uns["polygene"]["tokens"]``: the table, and the confusion matrices that
    :func:`~polygene_scverse.get.token_confusion` reads and :func:`~polygene_scverse.pl.token_confusion` draws.

    Raises
    ------
    ValueError
        If no model is found, if `masking`, `hidden_share` or `balance` is out of range, if the model does not have a
        phenotype, if no gene matches, or if expression has the wrong scale.
    KeyError
        If a phenotype in `given` is not an obs column.

    Examples
    --------
    >>> pgs.tl.score_tokens(test, model=model)
    >>> pgs.pl.token_confusion(test)

    Score how well genes are predicted from phenotypes if three quarters of the other genes are hidden as well:

    >>> hidden = pgs.tl.score_tokens(test, hidden_share=0.75)
    >>> shown = pgs.tl.score_tokens(test, hidden_share=0.75, given=["cell_type", "disease"])
    >>> hidden["nll"] - shown["nll"]
    """
    check_key_added(key_added, TOKENS)
    data, trained = cells_and_model(adata, model, mod)
    check_notes(data, key_added, like=TOKENS)
    counts = trained.count_hidden_tokens(
        data,
        masking=masking,
        given=given,
        hidden_share=hidden_share,
        balance=balance,
        seed=seed,
        gene_symbols=gene_symbols,
        gene_ids=gene_ids,
        batch_size=batch_size,
    )
    scores = score_table(counts)
    note = {**note_of(counts, scores, trained.mask_), "seed": seed}
    write_notes(data, **{key_added: note})
    return scores


def score_table(counts: TokenCounts) -> pd.DataFrame:
    """Make the table that `score_tokens` returns."""
    genes, phenotypes, bins = counts.genes, counts.phenotypes, range(len(counts.genes))
    gene_nll, phenotype_nll = counts.nll.genes, counts.nll.phenotypes
    names: dict[str, list[str]] = {TRANSFORMER: list(phenotypes)}
    names |= {f"{TRANSFORMER}, {name}": [name] for name in phenotypes}
    rows: list[tuple[str, str, list[pd.DataFrame], list[NDArray[np.float64]], Sequence[int] | None]] = [
        ("all", "", [genes, *phenotypes.values()], [gene_nll, *phenotype_nll.values()], None),
        ("genes", "", [genes], [gene_nll], None),
        ("genes", "expressed", [genes], [gene_nll[1:]], bins[1:]),
        ("genes", "not expressed", [genes], [gene_nll[:1]], bins[:1]),
        ("genes", "bin of expressed", [counts.expressed], [counts.nll.expressed], None),
        *(
            ("phenotypes", of, [phenotypes[name] for name in part], [phenotype_nll[name] for name in part], None)
            for of, part in names.items()
        ),
    ]
    table = pd.DataFrame(
        [{"tokens": tokens, "of": of, **confusion_scores(m, classes=classes)} for tokens, of, m, _, classes in rows]
    ).astype({"n": int, "n_classes": int})
    corrected = (table["tokens"] != "phenotypes") & (table["of"] != "bin of expressed")
    table["zero_offset"] = corrected.map({True: counts.zero_offset, False: float("nan")})
    table["nll"] = [sum(float(part.sum()) for part in sums) for _, _, _, sums, _ in rows]
    table["nll"] = table["nll"] / table["n"].where(table["n"] > 0)
    return table


def note_of(counts: TokenCounts, scores: pd.DataFrame, mask: str) -> dict[str, Any]:
    """Plain values for ``uns``, which h5ad supports."""
    names, share = list(counts.phenotypes), counts.hiding.share
    return {
        "scores": scores.copy(),
        "genes": counts.genes.to_numpy(),
        "phenotypes": {note_key(name): matrix.to_numpy() for name, matrix in counts.phenotypes.items()},
        "categories": {note_key(name): list(matrix.columns) for name, matrix in counts.phenotypes.items()},
        "rates": asdict(counts.rates),
        "given": [names[slot] for slot in counts.hiding.shown],
        "hidden_share": float("nan") if share is None else float(share),
        "mask": mask,
    }
