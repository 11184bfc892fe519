"""Planted sample swaps, and how many of them `tl.audit` finds."""

from __future__ import annotations

import contextlib
import io
import itertools
import warnings
from collections.abc import Sequence

import anndata as ad
import numpy as np
import pandas as pd
from _splits import DATA

import polygene_scverse as pgs

Swap = dict[str, str]
"""Samples, and the wrong category that is recorded for each."""

SHORT = {"n_genes": 500, "batch_size": 32}
"""Settings of short trainings, because many are needed."""


def tcells_wells(n_cells: int, seed: int = 0) -> tuple[ad.AnnData, str]:
    """T cells of seven donors, sorted for CD4 or CD8: 16 samples, whose sort label is swapped."""
    adata = ad.read_h5ad(DATA / "tcells_7donors.h5ad")
    adata.obs["sample"] = adata.obs[["ind_cov", "batch_cov", "cg_cov"]].astype(str).agg(" ".join, axis=1)
    return _draw(adata, n_cells, seed), "cg_cov"


def tcells_batch(n_cells: int, seed: int = 0) -> tuple[ad.AnnData, str]:
    """T cells of six donors in the two batches that have several donors: 7 samples."""
    adata = ad.read_h5ad(DATA / "tcells_7donors.h5ad")
    adata = adata[adata.obs["batch_cov"] != "dmx_flare2"].copy()
    adata.obs["sample"] = adata.obs[["ind_cov", "batch_cov"]].astype(str).agg(" ".join, axis=1)
    return _draw(adata, n_cells, seed), "batch_cov"


def kang18_parts(n_cells: int, seed: int = 0) -> tuple[ad.AnnData, str]:
    """PBMC of two donors, control and stimulated: four samples, each cut into four because an audit needs more samples.

    The parts of a sample share a donor and a well, which makes the task easier than with independent samples.
    """
    adata = ad.read_h5ad(DATA / "kang18_pbmc_ifnb.h5ad")
    part = np.random.default_rng(seed).integers(0, 4, adata.n_obs).astype(str)
    adata.obs["sample"] = adata.obs["sample_id"].astype(str) + " " + part
    return _draw(adata, n_cells, seed), "group_id"


AUDITS = {"T cells, CD4 or CD8": tcells_wells, "T cells, batch": tcells_batch, "kang18, stimulation": kang18_parts}


def _draw(adata: ad.AnnData, n_cells: int, seed: int) -> ad.AnnData:
    """Draw at most `n_cells` cells of each sample."""
    order = np.random.default_rng(seed).permutation(adata.n_obs)
    rank = pd.Series(order).groupby(adata.obs["sample"].to_numpy()[order]).cumcount().to_numpy()
    return adata[np.sort(order[rank < n_cells])].copy()


def swaps(recorded: pd.Series) -> dict[str, list[Swap]]:
    """All swaps of one label, and of two different labels.

    Parameters
    ----------
    recorded
        Category of each sample.
    """
    levels = sorted(recorded.unique())
    single = [{s: other} for s, level in recorded.items() for other in levels if other != level]
    pairs = [
        {a: recorded[b], b: recorded[a]}
        for a, b in itertools.combinations(recorded.index, 2)
        if recorded[a] != recorded[b]
    ]
    return {"none": [{}], "single": single, "pair": pairs}


def run(adata: ad.AnnData, phenotype: str, swap: Swap, **kwargs: object) -> dict:
    """Plant a swap, run an audit with `kwargs`, and count the findings."""
    data = adata.copy()
    recorded = data.obs[phenotype].astype(str)
    data.obs[phenotype] = data.obs["sample"].map(swap).fillna(recorded)
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        table = pgs.tl.audit(data, sample_key="sample", phenotypes=phenotype, train_kwargs=SHORT, **kwargs)
    found = set(table.loc[table["flagged"], "sample"])
    first = set(table["sample"][: len(swap)])
    hits = len(found & set(swap))
    counts = {"planted": len(swap), "flagged": len(found), "hits": hits, "ranked first": len(first & set(swap))}
    return counts | {"reliable": int(table["reliable"].all())}


def audit_rows(
    *, names: Sequence[str] = tuple(AUDITS), n_cells: int = 60, most: int | None = None, seed: int = 0, **kwargs: object
) -> list[dict]:
    """Precision and recall over all swaps of one and of two samples, one row per data set and kind.

    Each swap needs its own trainings, because labels of the training cells are swapped too. They are short and use 500
    genes.

    Parameters
    ----------
    names
        Names of the data sets.
    n_cells
        Number of cells per sample.
    most
        Maximum number of randomly drawn swaps of each kind; None for all.
    seed
        Seed of the random draws and trainings.
    **kwargs
        Passed to `tl.audit`.
    """
    rows = []
    for name in names:
        adata, phenotype = AUDITS[name](n_cells, seed)
        recorded = adata.obs.groupby("sample", observed=True)[phenotype].first().astype(str)
        for kind, all_swaps in swaps(recorded).items():
            order = np.random.default_rng(seed).permutation(len(all_swaps))[:most]
            counts = []
            for i in order:
                try:
                    counts.append(run(adata, phenotype, all_swaps[i], seed=seed, **kwargs))
                except ValueError as error:  # nothing can be learned in a fold with one category
                    if "`split`: the training cells of fold" not in str(error):
                        raise
            if not counts:
                continue
            total = pd.DataFrame(counts).sum()
            rows.append(
                {
                    "data": name,
                    "swaps": kind,
                    "samples": len(recorded),
                    "configurations": f"{len(counts)} of {len(all_swaps)}",
                    "precision": total["hits"] / total["flagged"] if total["flagged"] else float("nan"),
                    "recall": total["hits"] / total["planted"] if total["planted"] else float("nan"),
                    "ranked first": total["ranked first"] / total["planted"] if total["planted"] else float("nan"),
                    "false flags per audit": (total["flagged"] - total["hits"]) / len(counts),
                    "called reliable": total["reliable"] / len(counts),
                }
            )
    return rows
