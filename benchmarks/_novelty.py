"""Detection of cells of a category that is absent from training."""

from __future__ import annotations

from collections.abc import Sequence

import anndata as ad
import numpy as np
import pandas as pd
from _splits import Task
from sklearn.covariance import LedoitWolf
from sklearn.decomposition import PCA
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors

import polygene_scverse as pgs

N_PCS = 30
LEAST_CELLS = 20
"""Minimum number of test cells of a category for a meaningful area under the curve."""


def without_category(task: Task, phenotype: str, category: str) -> ad.AnnData:
    """Training cells without those of one category, ready for training."""
    adata = task.train[(task.train.obs[phenotype].astype(str) != category).to_numpy()].copy()
    adata.obs[phenotype] = adata.obs[phenotype].astype(object).astype("category")
    return adata


def trial_scores(model: pgs.model.Polygene, task: Task, phenotype: str) -> dict[str, np.ndarray]:
    """Alternative scores that were tried and rejected, for the test cells; shape (n_test,) each.

    Parameters
    ----------
    model
        Model trained without the category.
    task
        The data set.
    phenotype
        Phenotype to whose categories distances are measured.
    """
    codes = model.codes(model.train_indices)[phenotype]
    expression = [log_cp10k(adata[:, model.genes]) for adata in (model.adata[model.train_indices], task.test)]
    pca = PCA(N_PCS, random_state=0).fit(expression[0])
    spaces = {
        "PCs": [pca.transform(x) for x in expression],
        "states": [
            model.get_latent_representation(indices=model.train_indices),
            model.get_latent_representation(task.test),
        ],
    }
    scores: dict[str, np.ndarray] = {}
    for space, (train, test) in spaces.items():
        nearest = NearestNeighbors(n_neighbors=10).fit(train).kneighbors(test)[0][:, -1]
        scores[f"nearest cells, {space}"] = nearest
        scores[f"Mahalanobis, {space}"] = mahalanobis(train, codes, test)
    return scores


def log_cp10k(adata: ad.AnnData) -> np.ndarray:
    """Dense log1p of counts per 10,000 of these genes; data that are not counts are returned unchanged."""
    x = adata.X.toarray()
    return np.log1p(1e4 * x / x.sum(axis=1, keepdims=True).clip(1)) if np.all(x == np.rint(x)) else x


def mahalanobis(train: np.ndarray, codes: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Squared distance to the nearest category, with a shared covariance."""
    used = [code for code in np.unique(codes[codes >= 0]) if (codes == code).sum() >= 5]
    centres = [train[codes == code].mean(axis=0) for code in used]
    around = np.concatenate([train[codes == code] - centre for code, centre in zip(used, centres, strict=True)])
    covariance = LedoitWolf(assume_centered=True).fit(around)
    return np.min([covariance.mahalanobis(test - centre) for centre in centres], axis=0)


def novelty_rows(
    task: Task,
    phenotype: str,
    categories: Sequence[str] | None = None,
    *,
    group_key: str | None = None,
    seed: int = 0,
    trials: bool = False,
    **train_kwargs: object,
) -> list[dict]:
    """Leave out each category in turn, and score how well its test cells are distinguished from the others.

    Parameters
    ----------
    task
        The data set; its test donors are not in training.
    phenotype
        Phenotype whose categories are left out.
    categories
        Categories to leave out; by default all with at least 20 test cells.
    group_key
        Passed to training; whole groups are held out for validation.
    seed
        Seed of the training.
    trials
        Whether to include the alternative scores that were rejected.
    **train_kwargs
        Passed to training, e.g. ``max_epochs``.

    Returns
    -------
    A row per category: area under the ROC curve of the novelty score, of its two components, and of the highest
    probability for comparison; the share of new cells, and of cells of known categories, with a novelty above 0.95; and
    the category that most new cells are predicted to have.
    """
    labels = task.test.obs[phenotype]
    known = labels.notna().to_numpy()
    counts = labels.value_counts()
    if categories is None:
        categories = [str(name) for name in counts.index[counts >= LEAST_CELLS]]
    rows = []
    for category in categories:
        adata = without_category(task, phenotype, category)
        model = pgs.tl.train(
            adata, phenotypes=task.phenotypes, group_key=group_key, seed=seed, verbose=False, **train_kwargs
        )
        scores = model.novelty(task.test, phenotype=phenotype)
        table = model.predict_phenotype(task.test, phenotypes=phenotype)[phenotype]
        new = (labels.astype(str) == category).to_numpy()
        taken_for = table[new].idxmax(axis=1).value_counts(normalize=True)
        areas = {name: scores[name] for name in scores} | {"1 - highest probability": 1 - table.max(axis=1)}
        if trials:
            areas |= trial_scores(model, task, phenotype)
        rows.append(
            {
                "data": task.name,
                "left out": category,
                "test cells": int(new.sum()),
                **{f"AUROC {name}": roc_auc_score(new[known], score[known]) for name, score in areas.items()},
                "new > 0.95": float((scores["novelty"][new] > 0.95).mean()),
                "known > 0.95": float((scores["novelty"][known & ~new] > 0.95).mean()),
                "taken for": f"{taken_for.index[0]} ({taken_for.iloc[0]:.0%})",
            }
        )
    return rows


def novelty_table(
    task: Task, phenotype: str, categories: Sequence[str] | None = None, **kwargs: object
) -> pd.DataFrame:
    """Rows of `novelty_rows`, and their mean."""
    table = pd.DataFrame(novelty_rows(task, phenotype, categories, **kwargs))
    numbers = table.select_dtypes(np.number).columns.drop("test cells")
    mean = {"data": task.name, "left out": "mean", **table[numbers].mean()}
    return pd.concat([table, pd.DataFrame([mean])], ignore_index=True)
