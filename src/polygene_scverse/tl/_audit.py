"""Recorded phenotypes that the expression contradicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray
from rich.console import Console

from polygene_scverse._constants import audit_key
from polygene_scverse._validate import check_columns, check_free, check_notes, write_notes
from polygene_scverse.data.read._phenotypes import candidates, encode, resolve_phenotypes
from polygene_scverse.evaluation._folds import Labels, fill_columns, group_codes, make_folds, train_fold
from polygene_scverse.model import Polygene
from polygene_scverse.tl._models import find

LEAST = 1e-6
"""Probabilities are raised to it, so that no cell alone decides for its sample."""
MARGIN = 0.1
"""Nats per cell by which another category must fit better; less is what a model scatters by that knows nothing."""
MOST_FLAGGED = 1 / 3
"""Share of flagged samples above which the expression does not tell the phenotype on new samples."""

COLUMNS = {
    **dict.fromkeys(("sample", "phenotype", "recorded", "suggested"), object),
    **{"score": float, "share": float, "n_cells": int, "flagged": bool, "reliable": bool},
}
"""Columns of the table and their types."""

Logs = dict[str, NDArray[np.float64]]


def audit(
    adata: AnnData,
    *,
    sample_key: str | None = None,
    group_key: str | None = None,
    phenotypes: str | Sequence[str] | None = None,
    n_folds: int = 4,
    max_epochs: int | None = None,
    seed: int = 0,
    model: Polygene | str | Path | None = None,
    train_kwargs: Mapping[str, Any] | None = None,
) -> pd.DataFrame:
    """Find recorded phenotypes that the expression contradicts: swapped samples, a wrong sex, a wrong tissue.

    Each cell is judged by a model that has not seen it, nor any cell of its group: one is trained for each fold. What
    is wrong in the records is in the training of the others, so that a few errors are found, not many.

    Parameters
    ----------
    adata
        Cells with recorded phenotypes.
    sample_key
        Obs column of the samples whose records may be swapped. Phenotypes that are constant within them are judged per
        sample as well.
    group_key
        Obs column whose groups stay whole in a fold, e.g. donors who gave several samples. By default `sample_key`;
        with neither, folds are of single cells.
    phenotypes
        Obs columns to judge. By default those with a usual name.
    n_folds
        Number of folds, and of trainings.
    max_epochs
        Number of passes over the training cells; fewer are faster and find less.
    seed
        Seed of folds and trainings.
    model
        A model trained on other cells, or its folder: it is used as it is, and nothing is trained.
    train_kwargs
        Passed to :func:`~polygene_scverse.tl.train`.

    Returns
    -------
    A row for each sample and phenotype that is constant within samples, most contradicted first, with the columns
    ``sample``, ``phenotype``, ``recorded``, ``suggested`` (the category that fits best), ``score`` (mean over cells of
    the log-likelihood of the recorded category minus that of the best other one, in nats, above the middle between the
    other samples recorded as the one and as the other: negative speaks against the record), ``share`` (of cells that
    speak against it), ``n_cells``, ``flagged`` (the score is below -0.1) and
    ``reliable`` (at most a third of the samples are flagged: else the expression does not tell the phenotype of new
    samples, and flags mean nothing). Likelihoods are probabilities over the categories' shares of the training cells.

    Prints which samples are flagged. Writes ``obs["polygene_audit_<phenotype>"]``, the probability of the recorded
    category of each cell (low values contradict; NaN where none is recorded or the model does not know it), and
    ``uns["polygene"]["audit"]``: this table, ``words`` and the phenotypes. Read it with
    :func:`~polygene_scverse.get.audit`.

    Raises
    ------
    KeyError
        If a column does not exist.
    ValueError
        If there are fewer groups than folds, if training cells have one category only, or if a phenotype is not the
        model's.

    Examples
    --------
    >>> table = pgs.tl.audit(adata, sample_key="sample", group_key="donor", phenotypes=["sex", "disease"])
    >>> table[table["flagged"] & table["reliable"]]
    """
    names = resolve_phenotypes(adata.obs, phenotypes)
    check_notes(adata, "audit")
    check_free(adata, "audit", map(audit_key, names), names)
    group_key = sample_key if group_key is None else group_key
    keys = {"sample_key": sample_key, "group_key": group_key}
    for argument, key in keys.items():
        if key is not None:
            check_columns([key], adata, argument, candidates)
    if model is None:
        labels = {name: Labels.of(adata.obs[name]) for name in names}
        kwargs = {"max_epochs": max_epochs, "validation_size": 0} | dict(train_kwargs or {})
        proba, likelihood = _out_of_fold(adata, labels, group_key, n_folds, seed, kwargs)
    else:
        labels, proba, likelihood = _by_model(adata, find(adata, model), names)
    samples = np.zeros(0, dtype=np.int64) if sample_key is None else group_codes(adata.obs, sample_key)
    rows = []
    for name, label in labels.items():
        known, cells = label.codes >= 0, np.arange(adata.n_obs)
        adata.obs[audit_key(name)] = np.where(known, proba[name][cells, label.codes], np.nan)
        if sample_key is not None and label.constant_within(samples):
            rows += _judge(name, label, likelihood[name], samples, adata.obs[sample_key].astype(str).to_numpy())
    table = pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)
    table = table.sort_values("score", kind="stable", ignore_index=True)
    words = say(table, sample_key)
    note = {"table": table, "words": words, "phenotypes": names, "sample_key": sample_key or ""}
    write_notes(adata, audit=note)
    Console(soft_wrap=True, highlight=False).print("\n".join(words), markup=False)
    return table.copy()


def _out_of_fold(
    adata: AnnData, labels: Mapping[str, Labels], group_key: str | None, n_folds: int, seed: int, kwargs: dict[str, Any]
) -> tuple[Logs, Logs]:
    """Of each phenotype probabilities and log-likelihoods by models that have not seen the cell."""
    folds = make_folds(adata.obs, group_key, n_folds, labels, seed)
    proba = {name: np.zeros((adata.n_obs, len(label.names))) for name, label in labels.items()}
    likelihood = {name: np.zeros_like(table) for name, table in proba.items()}
    for train_rows, test_rows in folds:
        model, _ = train_fold(adata, train_rows, list(labels), group_key=group_key, seed=seed, train_kwargs=kwargs)
        tables = model.predict_phenotype(adata[test_rows].copy(), phenotypes=list(labels))
        for name, label in labels.items():
            proba[name][test_rows] = fill_columns(tables[name], label.names)
            likelihood[name][test_rows] = fill_columns(_likelihood(model, name, tables[name]), label.names)
    return proba, likelihood


def _by_model(adata: AnnData, model: Polygene, names: Sequence[str]) -> tuple[dict[str, Labels], Logs, Logs]:
    """The same by a model that was trained elsewhere; its categories are the only ones."""
    tables = model.predict_phenotype(adata, phenotypes=names)
    labels = {}
    for name in names:
        categories = model.categories[name]
        labels[name] = Labels(categories, encode(adata.obs[name], categories)[0])
    likelihood = {name: _likelihood(model, name, tables[name]).to_numpy() for name in names}
    return labels, {name: tables[name].to_numpy() for name in names}, likelihood


def _likelihood(model: Polygene, name: str, table: pd.DataFrame) -> pd.DataFrame:
    """Log of probability over share of the training cells."""
    return table.clip(lower=LEAST).apply(np.log) - model.log_shares[name]


def _judge(
    name: str, label: Labels, likelihood: NDArray[np.float64], samples: NDArray[np.integer], sample_names: np.ndarray
) -> list[dict[str, Any]]:
    """A row per sample with a recorded category."""
    cells = [np.flatnonzero((samples == s) & (label.codes >= 0)) for s in np.unique(samples[label.codes >= 0])]
    recorded = np.array([label.codes[at[0]] for at in cells])  # (n_samples,)
    means = np.stack([likelihood[at].mean(axis=0) for at in cells])  # (n_samples, n_categories)
    rows = []
    for i, (at, own) in enumerate(zip(cells, recorded, strict=True)):
        offsets = np.array([_offset(means[:, own] - means[:, k], recorded, i, k) for k in range(len(label.names))])
        scores = means[i, own] - means[i] - offsets  # against each other category
        scores[own] = np.inf
        best = int(scores.argmin())
        ratios = likelihood[at, own] - likelihood[at, best] - offsets[best]
        row = {"sample": sample_names[at[0]], "phenotype": name, "recorded": label.names[own]}
        row |= {"suggested": label.names[best if scores[best] < 0 else own], "score": float(scores[best])}
        row |= {"share": float((ratios < 0).mean()), "n_cells": len(at), "flagged": bool(scores[best] < -MARGIN)}
        rows.append(row)
    reliable = sum(row["flagged"] for row in rows) <= MOST_FLAGGED * len(rows)
    return [row | {"reliable": reliable} for row in rows]


def _offset(ratios: NDArray[np.float64], recorded: NDArray[np.integer], sample: int, other: int) -> float:
    """Middle between samples recorded as a sample is and those recorded as `other`, by medians; the sample left out.

    A model may lean to one category in all new samples. Where the two kinds of samples are not told apart, or one has
    no other sample, there is no middle, and 0 is returned.

    Parameters
    ----------
    ratios
        Mean log-likelihood ratio of each sample, of the sample's category against `other`; shape (n_samples,).
    recorded
        Category of each sample; shape (n_samples,).
    """
    left = np.arange(len(recorded)) != sample
    same, others = ratios[left & (recorded == recorded[sample])], ratios[left & (recorded == other)]
    if not len(same) or not len(others) or np.median(same) <= np.median(others):
        return 0.0
    return float(np.median(same) + np.median(others)) / 2


def say(table: pd.DataFrame, sample_key: str | None) -> list[str]:
    """Which samples are flagged, in words."""
    if sample_key is None:
        return ["Cells only: pass sample_key= to judge samples."]
    if table.empty:
        return [f"No phenotype is constant within {sample_key!r}: cells are judged, samples are not."]
    words = []
    for name, rows in table.groupby("phenotype", sort=False):
        flagged = rows[rows["flagged"]]
        if not rows["reliable"].all():
            words.append(
                f"{name}: {len(flagged)} of {len(rows)} samples are flagged: the expression does not tell it on new "
                "samples, so that flags mean nothing."
            )
        elif flagged.empty:
            words.append(f"{name}: the expression of all {len(rows)} samples agrees with the record.")
        for r in flagged.itertuples() if rows["reliable"].all() else ():
            words.append(
                f"{name}: {r.sample} is recorded as {r.recorded!r}, its expression says {r.suggested!r} "
                f"({r.share:.0%} of {r.n_cells:,} cells, score {r.score:.2f})."
            )
    return words
