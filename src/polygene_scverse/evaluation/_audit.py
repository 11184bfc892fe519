"""Find samples whose expression contradicts their recorded phenotype, with models that were not trained on them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray

from polygene_scverse._validate import shorten
from polygene_scverse.data.read._phenotypes import candidates
from polygene_scverse.evaluation._folds import (
    Codes,
    Labels,
    Training,
    copy_cells,
    fill_columns,
    group_codes,
    make_folds,
    train_fold,
)
from polygene_scverse.model import Polygene

MIN_PROBABILITY = 1e-6
"""Lower limit of probabilities, so that no single cell dominates the score of its sample."""
MARGIN = 0.1
"""Nats per cell by which another category must fit better; smaller differences occur with uninformative models."""
MAX_FLAGGED = 1 / 3
"""Share of flagged samples above which flags are not reliable, because chance can be the cause."""
CLEAR_SHARE = 0.9
"""Minimum share of contradicting cells for a clear flag, if the model was trained on other cells."""

COLUMNS = {
    **dict.fromkeys(("sample", "phenotype", "recorded", "suggested"), object),
    **{"score": float, "share": float, "n_cells": int, "flagged": bool, "reliable": bool},
}
"""Columns of the table and their types."""

Floats = NDArray[np.floating]


class Evidence(NamedTuple):
    """Fit of the expression of each cell to each category of a phenotype.

    Parameters
    ----------
    probabilities
        Probability of each category, 0 if the model does not have it; shape (n_obs, n_categories).
    log_likelihoods
        Log of probability divided by the category's share of the training cells; same shape.
    """

    probabilities: Floats
    log_likelihoods: Floats


def out_of_fold_evidence(
    adata: AnnData, labels: Mapping[str, Labels], n_folds: int, training: Training
) -> dict[str, Evidence]:
    """Compute the evidence for each phenotype with models trained on neither the cell nor its group."""
    shapes = {name: (2, adata.n_obs, len(label.categories)) for name, label in labels.items()}
    evidence = {name: Evidence(*np.zeros(shape)) for name, shape in shapes.items()}
    folds = make_folds(adata.obs, training.group_key, n_folds, labels, training.seed, "n_folds")
    with training.progress("models", len(folds)) as advance:
        for train_rows, test_rows in folds:
            model, _ = train_fold(adata, train_rows, list(labels), training)
            for name, found in model_evidence(model, copy_cells(adata, test_rows), labels).items():
                for all_cells, test_cells in zip(evidence[name], found, strict=True):
                    all_cells[test_rows] = test_cells
            advance(1)
    return evidence


def model_evidence(
    model: Polygene, adata: AnnData, labels: Mapping[str, Labels], **gene_names: Any
) -> dict[str, Evidence]:
    """Compute the evidence for each phenotype with a model that was trained on other cells."""
    evidence = {}
    for name, table in model.predict_phenotype(adata, phenotypes=list(labels), **gene_names).items():
        tables = (table, table.clip(lower=MIN_PROBABILITY).apply(np.log) - model.log_shares[name])
        evidence[name] = Evidence(*(fill_columns(values, labels[name].categories) for values in tables))
    return evidence


def sample_table(
    labels: Mapping[str, Labels],
    evidence: Mapping[str, Evidence],
    obs: pd.DataFrame,
    sample_key: str | None,
    other_cells: bool = False,
) -> pd.DataFrame:
    """Score the samples for each phenotype that is constant within samples.

    Parameters
    ----------
    labels
        Recorded labels of each phenotype.
    evidence
        Evidence for each phenotype.
    obs
        Annotation of the cells.
    sample_key
        Column of the samples; None if there are none.
    other_cells
        Whether the model was trained on other cells, so that wrong labels are not part of its training.

    Returns
    -------
    A row per sample and phenotype, most contradicted first; the columns are those in `COLUMNS`.
    """
    rows: list[dict[str, Any]] = []
    if sample_key is not None:
        samples, names = group_codes(obs, sample_key), obs[sample_key].astype(str).to_numpy()
        for phenotype, label in labels.items():
            if label.constant_within(samples):
                found = evidence[phenotype].log_likelihoods
                rows += judge_samples(phenotype, label, found, samples, names, other_cells)
    table = pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)
    return table.sort_values("score", kind="stable", ignore_index=True)


def judge_samples(
    phenotype: str,
    label: Labels,
    log_likelihoods: Floats,
    samples: Codes,
    sample_names: NDArray[np.object_],
    other_cells: bool = False,
) -> list[dict[str, Any]]:
    """Return a row for each sample with a recorded category.

    Parameters
    ----------
    phenotype
        Name of the phenotype.
    label
        Recorded labels, constant within samples.
    log_likelihoods
        Log-likelihoods of each category; shape (n_obs, n_categories).
    samples, sample_names
        Number and name of each cell's sample; shape (n_obs,).
    other_cells
        Whether the model was trained on other cells.
    """
    cells = [np.flatnonzero((samples == s) & (label.codes >= 0)) for s in np.unique(samples[label.codes >= 0])]
    recorded = np.array([label.codes[members[0]] for members in cells])  # (n_samples,)
    means = np.stack([log_likelihoods[members].mean(axis=0) for members in cells])  # (n_samples, n_categories)
    rows = []
    for i, (members, own) in enumerate(zip(cells, recorded, strict=True)):
        offsets = np.array([category_offset(means[:, own] - mean, recorded, i, k) for k, mean in enumerate(means.T)])
        scores = means[i, own] - means[i] - offsets  # compared with each other category
        scores[own] = np.inf
        best = int(scores.argmin())
        ratios = log_likelihoods[members, own] - log_likelihoods[members, best] - offsets[best]
        row = {"sample": sample_names[members[0]], "phenotype": phenotype, "recorded": label.categories[own]}
        row |= {"suggested": label.categories[best if scores[best] < 0 else own], "score": float(scores[best])}
        row |= {"share": float((ratios < 0).mean()), "n_cells": len(members), "flagged": bool(scores[best] < -MARGIN)}
        rows.append(row)
    reliable = _reliable([row for row in rows if row["flagged"]], len(rows), other_cells)
    return [row | {"reliable": reliable} for row in rows]


def _reliable(flagged: list[dict[str, Any]], n_samples: int, other_cells: bool) -> bool:
    """Whether flags cannot well be chance: they are few, or a model from other cells clearly contradicts most samples.

    In between, a model that responds to differences between samples instead of the phenotype flags as many. It must
    contradict samples of different categories, because one that suggests the same category for all samples knows
    nothing about them.
    """
    n_clear = sum(row["share"] >= CLEAR_SHARE for row in flagged)
    reversed_labels = n_samples - n_clear <= MAX_FLAGGED * n_samples and len({row["suggested"] for row in flagged}) > 1
    return len(flagged) <= MAX_FLAGGED * n_samples or (other_cells and reversed_labels)


def category_offset(ratios: Floats, recorded: Codes, sample: int, other: int) -> float:
    """Midpoint between the medians of samples with the same recorded category and with `other`, without the sample.

    A model may favour one category in all new samples. If the two kinds of samples are not separated, or if one of them
    has no other sample, 0 is returned.

    Parameters
    ----------
    ratios
        Mean log-likelihood ratio of each sample, of the sample's category against `other`; shape (n_samples,).
    recorded
        Category of each sample; shape (n_samples,).
    sample
        Index of the sample.
    other
        Code of the other category.
    """
    rest = np.arange(len(recorded)) != sample
    same, others = ratios[rest & (recorded == recorded[sample])], ratios[rest & (recorded == other)]
    if not len(same) or not len(others) or np.median(same) <= np.median(others):
        return 0.0
    return float(np.median(same) + np.median(others)) / 2


CELLS_ONLY = (
    "`sample_key`: none was passed, so only single cells are assessed, and the table of samples is empty. The "
    "probability of the recorded category of each cell is written to obs['polygene_audit_<phenotype>'], where low "
    "values contradict the record; pgs.get.audit(adata, phenotype=...) returns the most contradicted cells first."
)
"""What an audit without samples reports."""


def check_samples(labels: Mapping[str, Labels], obs: pd.DataFrame, sample_key: str | None) -> str:
    """Check what can be assessed, before anything is trained.

    Parameters
    ----------
    labels
        Recorded labels of each phenotype.
    obs
        Annotation of the cells.
    sample_key
        Column of the samples; None if there are none.

    Returns
    -------
    A message if only single cells are assessed, with columns of samples that could be passed; otherwise empty.

    Raises
    ------
    ValueError
        If no cell has a label, or if no phenotype is constant within the samples.
    """
    if unknown := [name for name, label in labels.items() if (label.codes < 0).all()]:
        raise ValueError(
            f"`phenotypes`: no cell has a category of {unknown} that the model knows, so there is nothing to assess. "
            f"It knows {shorten(labels[unknown[0]].categories)} of {unknown[0]!r}. Leave them out, or pass "
            "another model."
        )
    samples = None if sample_key is None else group_codes(obs, sample_key)
    if samples is not None and any(label.constant_within(samples) for label in labels.values()):
        return ""
    if samples is not None and len(np.unique(samples)) < 2:
        raise ValueError(
            f"`sample_key`: all cells have the same {sample_key!r}, but samples are compared with each other. Pass "
            "cells of several samples, or leave it out to assess single cells."
        )
    pairs = [f"{name!r} within {columns}" for name, columns in constant_columns(labels, obs).items()]
    if samples is None:
        could = (
            f" Phenotypes that are constant within samples: {', '.join(pairs)}. Pass such a column." if pairs else ""
        )
        return CELLS_ONLY + could
    pass_one = f" Columns within which they are: {', '.join(pairs)}." if pairs else ""
    raise ValueError(
        f"`sample_key`: none of the phenotypes {shorten(labels)} is constant within {sample_key!r}, so no sample can "
        f"be assessed.{pass_one} Pass another column or other phenotypes. Without samples, pgs.tl.audit assesses "
        f"single cells, and group_key={sample_key!r} keeps these groups in one fold."
    )


def constant_columns(labels: Mapping[str, Labels], obs: pd.DataFrame) -> dict[str, list[str]]:
    """Columns of obs within which a phenotype is constant and which have more groups than it has categories."""
    columns = {name: group_codes(obs, name) for name in candidates(obs)}
    found = {
        phenotype: [
            name
            for name, groups in columns.items()
            if name != phenotype and len(label.categories) < groups.max() + 1 and label.constant_within(groups)
        ]
        for phenotype, label in labels.items()
    }
    return {phenotype: names for phenotype, names in found.items() if names}


def describe_audit(table: pd.DataFrame, other_cells: bool = False) -> list[str]:
    """Describe the flagged samples in sentences.

    Parameters
    ----------
    table
        As returned by `sample_table`.
    other_cells
        Whether the model was trained on other cells.
    """
    sentences = []
    for name, rows in table.groupby("phenotype", sort=False):
        flagged = rows[rows["flagged"]]
        if len(flagged) > MAX_FLAGGED * len(rows):
            sentences.append(_describe_many(str(name), rows, len(flagged), other_cells))
        if flagged.empty:
            sentences.append(f"{name}: the expression of all {len(rows)} samples agrees with the recorded phenotype.")
        elif rows["reliable"].all():
            sentences += [
                f"{name}: {row.sample} is recorded as {row.recorded!r}, but its expression suggests {row.suggested!r} "
                f"({row.share:.0%} of {row.n_cells:,} cells, score {row.score:.2f})."
                for row in flagged.itertuples()
            ]
    return sentences


def _describe_many(name: str, rows: pd.DataFrame, n_flagged: int, other_cells: bool) -> str:
    """Both causes of many flagged samples, and how to tell them apart."""
    causes = (
        "Either the labels of many samples are swapped or named differently, or the expression does not predict the "
        "phenotype in new samples."
    )
    n_clear = int((rows["flagged"] & (rows["share"] >= CLEAR_SHARE)).sum())
    found = f"{name}: {n_flagged} of {len(rows)} samples are flagged"
    if other_cells and n_clear:
        found += f", {n_clear} of them with at least {CLEAR_SHARE:.0%} of their cells"
    if rows["reliable"].all():
        return (
            f"{found}, in more than one direction. If the model is accurate on other data "
            "(pgs.tl.evaluate(other_data, model=model)), their labels are swapped or named differently."
        )
    remedy = (
        "If the model is accurate on other data (pgs.tl.evaluate(other_data, model=model)), the labels are probably "
        "wrong."
        if other_cells
        else "To find out, pass model=, a model trained on other cells whose labels are known to be right."
    )
    first = rows.nsmallest(1, "score").iloc[0]
    return (
        f"{found}, too many to be reliable. {causes} {remedy} Most contradicted: {first['sample']}, recorded as "
        f"{first['recorded']!r}, suggested {first['suggested']!r} ({first['share']:.0%} of {first['n_cells']:,} cells)."
    )
