"""Conditional and joint predictions, on simulated cells with a known joint distribution and on real cells."""

from __future__ import annotations

import numpy as np
import pandas as pd
import scipy.sparse as sp
from _splits import TASKS
from anndata import AnnData
from scipy.stats import poisson

import polygene_scverse as pgs

OF_B = np.full((3, 3), 0.05) + 0.85 * np.eye(3)
"""Probability of each b given each a."""


def rates() -> np.ndarray:
    """Mean counts: ten of 60 genes are slightly higher in each a; b and c have no effect."""
    return np.exp(-0.5 + 0.5 * (np.arange(60) // 10 == np.arange(3)[:, None]))


def cells(n: int, seed: int) -> AnnData:
    """Simulate cells in which b depends on a and c is random; expression depends on a only."""
    rng = np.random.default_rng(seed)
    a, c = rng.integers(0, 3, n), rng.integers(0, 2, n)
    b = (rng.random(n)[:, None] > OF_B.cumsum(1)[a]).sum(1)
    obs = {name: [f"{name}{code}" for code in codes] for name, codes in (("a", a), ("b", b), ("c", c))}
    counts = rng.poisson(rates()[a]).astype(np.float32)
    return AnnData(sp.csr_matrix(counts), obs=pd.DataFrame(obs, index=[f"cell{i}" for i in range(n)], dtype="category"))


def truth(adata: AnnData) -> np.ndarray:
    """True probability of (a, b) given the counts; shape (n_cells, 3, 3)."""
    logs = poisson.logpmf(adata.X.toarray()[:, None], rates()).sum(-1)
    of_a = np.exp(logs - logs.max(1, keepdims=True))
    return (of_a / of_a.sum(1, keepdims=True))[:, :, None] * OF_B


def codes_of(adata: AnnData, name: str, categories: list[str]) -> np.ndarray:
    """Codes of a column, -1 for categories that the model does not know."""
    return pd.Categorical(adata.obs[name].astype(object), categories=categories).codes.astype(int)


def evidence_rows(name: str, model: pgs.model.Polygene, test: AnnData) -> list[dict]:
    """NLL and macro-F1 of each phenotype, given each other phenotype and given none."""
    rows = []
    for phenotype, categories in model.categories.items():
        codes = codes_of(test, phenotype, categories)
        for given in (None, *(other for other in model.categories if other != phenotype)):
            proba = model.predict_phenotype(test, phenotypes=phenotype, given=given)[phenotype].to_numpy()
            scores = {"NLL": pgs.metrics.nll(codes, proba), "macro-F1": pgs.metrics.macro_f1(codes, proba.argmax(1))}
            rows.append({"data": name, "phenotype": phenotype, "given": given or "nothing", **scores})
    return rows


def joint_row(name: str, model: pgs.model.Polygene, test: AnnData, pair: tuple[str, str]) -> dict:
    """Log-likelihood per cell of the joint prediction, of independent marginals, and of the simulation's truth."""
    codes = [codes_of(test, p, model.categories[p]) for p in pair]
    known = np.flatnonzero((codes[0] >= 0) & (codes[1] >= 0))
    at = [c[known] for c in codes]
    joint = model.joint_phenotype(test, phenotypes=pair, indices=known)
    tables = model.predict_phenotype(test, phenotypes=list(pair), indices=known)
    cell = np.arange(len(known))
    first, second = (tables[p].to_numpy() for p in pair)
    eps = np.finfo(np.float64).eps
    row = {
        "data": name,
        "phenotypes": " x ".join(pair),
        "joint": np.log(joint[cell, at[0], at[1]].clip(min=eps)).mean(),
        "independent": (np.log(first[cell, at[0]].clip(min=eps)) + np.log(second[cell, at[1]].clip(min=eps))).mean(),
    }
    impossible = ~model.seen_together(pair)
    flat, product = joint.reshape(len(known), -1), (first[:, :, None] * second[:, None]).reshape(len(known), -1)
    row["impossible, joint"] = impossible.ravel()[flat.argmax(1)].mean()
    row["impossible, independent"] = impossible.ravel()[product.argmax(1)].mean()
    if name == "simulated":
        row["simulated truth"] = np.log(truth(test)[known][cell, at[0], at[1]]).mean()
    return row


def joint_tables(*, real: bool = True, max_epochs: int | None = None, seed: int = 0) -> tuple[list[dict], list[dict]]:
    """Rows of conditional and of joint predictions, with default training.

    Parameters
    ----------
    real
        Whether to include T cells and kang18.
    max_epochs
        Number of epochs; by default that of `tl.train`.
    seed
        Seed of the trainings.
    """
    sides = {"simulated": (cells(4000, 0), cells(1000, 1), ["a", "b", "c"], ("a", "b"))}
    for key, pair in {"tcells": ("ct_cov", "cg_cov"), "kang18": ("cluster_id", "group_id")}.items() if real else ():
        task = TASKS[key]()
        sides[task.name] = (task.train, task.test, task.phenotypes, pair)
    evidence, joint = [], []
    for name, (train, test, phenotypes, pair) in sides.items():
        model = pgs.tl.train(train, phenotypes=phenotypes, max_epochs=max_epochs, seed=seed, verbose=False)
        evidence += evidence_rows(name, model, test)
        joint.append(joint_row(name, model, test, pair))
    return evidence, joint
