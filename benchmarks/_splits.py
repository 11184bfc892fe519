"""Fixed splits with held-out donors, used to compare results over time."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp
from sklearn.model_selection import StratifiedKFold

import polygene_scverse as pgs

DATA = Path(os.environ.get("POLYGENE_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))
MOST_TRAIN, MOST_TEST = 4000, 2000
N_FOLDS = 5


@dataclass
class Task:
    """Training and test cells of one data set.

    Parameters
    ----------
    name
        Name in tables.
    train, test
        The cells; training and test cells share no donors.
    phenotypes
        Obs columns to learn.
    group
        Donor of each training cell, or None for a single donor.
    """

    name: str
    train: ad.AnnData
    test: ad.AnnData
    phenotypes: list[str]
    group: pd.Series | None


def _draw(adata: ad.AnnData, test: np.ndarray) -> tuple[ad.AnnData, ad.AnnData]:
    """At most 4,000 training and 2,000 test cells; the training cells are drawn first."""
    random = np.random.RandomState(0)
    train_rows = random.permutation(np.flatnonzero(~test))[:MOST_TRAIN]
    test_rows = random.permutation(np.flatnonzero(test))[:MOST_TEST]
    return adata[train_rows].copy(), adata[test_rows].copy()


def _held_out(name: str, file: str, phenotypes: list[str], donor: pd.Series | str, held_out: list[str]) -> Task:
    adata = ad.read_h5ad(DATA / file)
    adata.obs["donor"] = adata.obs[donor].astype(str).str[-3:] if name == "kang18" else adata.obs[donor].astype(str)
    donors = held_out or sorted(adata.obs["donor"].unique())[:12]
    train, test = _draw(adata, adata.obs["donor"].isin(donors).to_numpy())
    shared = set(train.obs["donor"]) & set(test.obs["donor"])
    if shared or not train.n_obs or not test.n_obs:
        raise ValueError(f"split of {name}: shared donors {shared}, {train.n_obs} training and {test.n_obs} test cells")
    group = train.obs["donor"] if train.obs["donor"].nunique() >= 3 else None
    return Task(name, train, test, phenotypes, group)


def kang18() -> Task:
    """PBMC with and without interferon-beta; donor 107 held out."""
    return _held_out("kang18", "kang18_pbmc_ifnb.h5ad", ["cluster_id", "group_id"], "sample_id", ["107"])


def tcells() -> Task:
    """T cells of seven donors; two held out."""
    donors = ["IGTB143_IGTB143", "IGTB508_IGTB508"]
    return _held_out("T cells", "tcells_7donors.h5ad", ["ct_cov", "cg_cov", "batch_cov"], "ind_cov", donors)


def onek1k() -> Task:
    """PBMC of forty donors; the first twelve held out."""
    return _held_out("OneK1K", "onek1k_40donors.h5ad", ["cell_type"], "indiv", [])


def glioblastoma() -> Task:
    """Tumour slices with and without panobinostat, of five patients; two held out. For the final evaluation only."""
    return _held_out("glioblastoma", "glioblastoma_5patients.h5ad", ["condition"], "patient_id", ["PW036", "PW040"])


def pbmc68k(fold: int = 0) -> Task:
    """PBMC of one donor: a stratified random split, which gives an upper bound."""
    adata = pgs.datasets.pbmc68k()
    adata.X = sp.csr_matrix(adata.X)
    folds = StratifiedKFold(N_FOLDS, shuffle=True, random_state=0).split(adata.X, adata.obs["bulk_labels"])
    train, test = list(folds)[fold]
    return Task("pbmc68k", adata[train].copy(), adata[test].copy(), ["bulk_labels", "phase"], None)


TASKS = {"tcells": tcells, "kang18": kang18, "onek1k": onek1k, "glioblastoma": glioblastoma, "pbmc68k": pbmc68k}
