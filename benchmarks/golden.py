"""Check whether a code change alters results: write golden arrays before it, compare them bit by bit after it.

    python benchmarks/golden.py write FOLDER     # before the change
    python benchmarks/golden.py check FOLDER     # after it, on the same machine; exit status 1 if anything differs

Small models of simulated cells, pbmc68k and kang18 are trained briefly, in memory, from a backed file and from two
files. Their weights and the results of all their methods are compared. Both runs use one thread.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.update(
    dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
)

import anndata as ad
import numpy as np
import pandas as pd
import torch
from _splits import DATA

import polygene_scverse as pgs

TRAIN = {"max_epochs": 2, "verbose": False, "seed": 3, "n_genes": 120, "model_kwargs": {"gene_decoder": False}}
TRAIN["masking"] = {"any_share": 0.0}
"""Without the gene decoder, and without hiding any share of genes, which golden arrays of before do not know."""
Arrays = dict[str, np.ndarray]


def simulated() -> tuple[ad.AnnData, dict[str, Any]]:
    """Counts with missing labels and donors."""
    adata = pgs.datasets.simulate(400, 150, missing=0.1, effect=1.5, seed=1)
    return adata, {"phenotypes": ["cell_type", "sex"], "group_key": "donor", **TRAIN}


def pbmc68k() -> tuple[ad.AnnData, dict[str, Any]]:
    """log1p of counts per 10,000."""
    return pgs.datasets.pbmc68k(), {"phenotypes": ["bulk_labels", "phase"], **TRAIN}


def kang18() -> tuple[ad.AnnData, dict[str, Any]]:
    """Counts of two donors."""
    adata = ad.read_h5ad(DATA / "kang18_pbmc_ifnb.h5ad")
    return adata, {"phenotypes": ["cluster_id", "group_id"], "group_key": "sample_id", **TRAIN}


def in_memory(adata: ad.AnnData, kwargs: dict[str, Any], folder: Path) -> tuple[Any, ad.AnnData]:
    """Train and ask in memory."""
    return pgs.tl.train(adata, **kwargs), adata


def backed(adata: ad.AnnData, kwargs: dict[str, Any], folder: Path) -> tuple[Any, ad.AnnData]:
    """Train on a file that is read in part, and ask it."""
    path = folder / "backed.h5ad"
    adata.write_h5ad(path)
    on_disk = ad.read_h5ad(path, backed="r")
    return pgs.tl.train(on_disk, **kwargs), on_disk


def two_shards(adata: ad.AnnData, kwargs: dict[str, Any], folder: Path) -> tuple[Any, ad.AnnData]:
    """Train on two files in small buffers; ask in memory."""
    half, paths = adata.n_obs // 2, [folder / "shard_0.h5ad", folder / "shard_1.h5ad"]
    for path, rows in zip(paths, (slice(0, half), slice(half, None)), strict=True):
        adata[rows].copy().write_h5ad(path)
    return pgs.tl.train(paths, buffer_cells=128, **kwargs), adata


def weights(model: Any) -> Arrays:
    """What training has decided: parameters, and the linear path."""
    found = {f"weights/{name}": value.numpy(force=True) for name, value in model.module.state_dict().items()}
    if hasattr(model, "fitted_"):  # before there was such a state, these stood among the weights
        found["weights/mix"] = np.array(model.fitted_.linear_share, dtype=np.float32)
        found["weights/category_counts"] = np.concatenate(model.fitted_.category_counts)
    return found


def answers(model: Any, adata: ad.AnnData) -> Arrays:
    """All that a model can be asked, as arrays."""
    names, found = list(model.layout.phenotype_names), {}
    first, others = names[0], names[1:]
    tables = model.predict_phenotype(adata)
    given = model.predict_phenotype(adata, phenotypes=first, given=others)
    found |= {f"probabilities/{name}": table.to_numpy() for name, table in tables.items()}
    found[f"probabilities/{first}/given"] = given[first].to_numpy()
    rows = np.random.default_rng(0).permutation(adata.n_obs)[:70]
    found["probabilities/rows"] = model.predict_phenotype(adata, indices=rows, batch_size=17)[first].to_numpy()
    found |= {f"decided/{name}": column.cat.codes.to_numpy() for name, column in model.decide(tables).items()}
    for pooling in ("decision", "phenotypes", "genes", "cls", first):
        found[f"embedding/{pooling}"] = model.get_latent_representation(adata, pooling=pooling)
    found["embedding/given"] = model.get_latent_representation(adata, given=others)
    states = model.get_gene_states(adata, groupby=first)
    found |= {"gene_states/means": states.means, "gene_states/n_cells": states.n_cells}
    found["joint"] = model.joint_phenotype(adata, phenotypes=names)
    found["seen_together"] = model.seen_together(names)
    found |= {f"temperature/{name}": np.array(model.temperature(name)) for name in names}
    for masking in (None, "original"):
        counts = model.count_hidden_tokens(adata, masking=masking)
        found[f"tokens/{masking}/genes"] = counts.genes.to_numpy()
        found[f"tokens/{masking}/expressed"] = counts.expressed.to_numpy()
        found[f"tokens/{masking}/offset"] = np.array(counts.zero_offset)
        found |= {f"tokens/{masking}/{name}": matrix.to_numpy() for name, matrix in counts.phenotypes.items()}
    novelty = model.novelty(adata)
    found |= {f"novelty/{name}": novelty[name].to_numpy() for name in novelty}
    for by_category in (False, True):
        sets = model.prediction_sets(tables, coverage=0.8, by_category=by_category)
        found |= {f"sets/{by_category}/{name}": table.to_numpy() for name, table in sets.items()}
    return found


def verbs(adata: ad.AnnData, model: Any) -> Arrays:
    """What the verbs write into AnnData."""
    adata = adata.to_memory() if adata.isbacked else adata.copy()
    pgs.tl.predict_phenotype(adata, model=model, coverage=0.8)
    pgs.tl.embed(adata, model=model, umap=False)
    pgs.tl.novelty(adata, model=model)
    pgs.tl.fill_phenotype(adata, model=model)
    scores = pgs.tl.score_tokens(adata, model=model)
    found = {f"scores/{name}": scores[name].to_numpy() for name in scores.select_dtypes("number")}
    for name, column in adata.obs.items():
        if str(name).startswith("polygene_"):
            found[f"obs/{name}"] = column.cat.codes.to_numpy() if column.dtype == "category" else column.to_numpy()
    return found | {f"obsm/{key}": value for key, value in adata.obsm.items() if "polygene" in key}


def calibrated(model: Any, adata: ad.AnnData) -> Arrays:
    """Calibration on other cells: a table of errors, and probabilities afterwards."""
    table = model.calibrate(adata, indices=np.arange(0, adata.n_obs, 3))
    found = {f"calibration/{name}": table[name].to_numpy() for name in table.select_dtypes("number")}
    tables = model.predict_phenotype(adata)
    return found | {f"calibrated/{name}": part.to_numpy() for name, part in tables.items()}


def trusted(adata: ad.AnnData, kwargs: dict[str, Any]) -> Arrays:
    """An audit and an evaluation with folds of two donors each."""
    train = {name: TRAIN[name] for name in ("model_kwargs", "masking")} | {"max_epochs": 1, "n_genes": 60}
    names, group = ["cell_type", "arm"], kwargs["group_key"]
    arm = adata.obs[group].cat.codes % 2  # constant within donors, so that samples are judged
    adata.obs["arm"] = pd.Categorical(np.array(["treated", "control"])[arm])
    audit = pgs.tl.audit(adata, sample_key=group, phenotypes=names, n_folds=2, seed=1, train_kwargs=train)
    table = pgs.tl.evaluate(
        adata, group_key=group, phenotypes=names, split=2, n_bootstrap=20, seed=1, train_kwargs=train,
        baselines=["majority", "logistic regression on HVGs", "kNN on PCs"],
    )  # fmt: skip
    found = {f"audit/{name}": audit[name].to_numpy() for name in audit.select_dtypes("number")}
    found |= {f"audit/obs/{name}": adata.obs[f"polygene_audit_{name}"].to_numpy() for name in names}
    return found | {f"evaluate/{name}": table[name].to_numpy() for name in table.select_dtypes("number")}


DATA_SETS: dict[str, Callable[[], tuple[ad.AnnData, dict[str, Any]]]] = {
    "simulated": simulated,
    "pbmc68k": pbmc68k,
    "kang18": kang18,
}
WAYS = {"memory": in_memory, "backed": backed, "two shards": two_shards}


def everything() -> Arrays:
    """All arrays, by the data set, how it was read, and what they are."""
    found: Arrays = {}
    for name, make in DATA_SETS.items():
        for way, train in WAYS.items():
            with tempfile.TemporaryDirectory() as folder:
                adata, kwargs = make()
                model, cells = train(adata, kwargs, Path(folder))
                parts = weights(model) | answers(model, cells) | verbs(cells, model) | calibrated(model, cells)
            found |= {f"{name}/{way}/{key}": value for key, value in parts.items()}
            print(f"{name}, {way}: {len(parts)} arrays", flush=True)
    adata, kwargs = simulated()
    return found | {f"simulated/{key}": value for key, value in trusted(adata, kwargs).items()}


def compare(before: Arrays, after: Arrays) -> list[str]:
    """Names of what differs, is missing or is new."""
    lines = [f"missing: {name}" for name in before.keys() - after.keys()]
    lines += [f"new: {name}" for name in after.keys() - before.keys()]
    for name in sorted(before.keys() & after.keys()):
        a, b = before[name], after[name]
        if a.shape != b.shape or a.tobytes() != b.astype(a.dtype).tobytes():
            far = np.nanmax(np.abs(np.subtract(a, b, dtype=float))) if a.shape == b.shape and a.size else np.inf
            lines.append(f"differs: {name} {a.shape} {b.shape}, by {far:.3g} at most")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["write", "check"])
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    pd.options.mode.copy_on_write = True
    warnings.simplefilter("ignore")
    path = arguments.folder / "golden.npz"
    found = everything()
    if arguments.what == "write":
        arguments.folder.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(path, **{name.replace("/", "|"): value for name, value in found.items()})
        print(f"{len(found)} arrays are in {path}.")
        return
    with np.load(path) as file:
        before = {name.replace("|", "/"): file[name] for name in file.files}
    lines = compare(before, found)
    print("\n".join(lines) or f"All {len(found)} arrays are equal, to the last bit.")
    sys.exit(bool(lines))


if __name__ == "__main__":
    main()
