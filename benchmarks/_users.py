"""Comparison with tools that a user could choose instead: training and prediction of one phenotype, in one run."""

from __future__ import annotations

import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import scanpy as sc
import scipy.sparse as sp
import scvi
import torch
from _machine import GIB, matmul_rate, peak_memory
from _splits import tcells
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import polygene_scverse as pgs
import polygene_scverse.tl  # all tools are imported before their training is timed
from polygene_scverse._compat import seeded

LABEL, N_GENES, N_CELLS, N_TEST = "label", 3000, 2000, 4000
EXPRESSED = (130, 400, 1200)
N_DONORS = 5
OURS = "polygene"
SHORT = 2
"""Number of epochs if the network is only needed to measure its speed."""
COLUMNS = ("expressed genes", "tool", "step", "cells/s", "ratio to ours", "seconds", "accuracy, held out", "peak GiB")
COLUMNS += ("% of matrix-product rate",)
Cells = tuple[ad.AnnData, ad.AnnData]


def cells_of(n_expressed: int) -> Cells:
    """Training and test cells of different donors: T cells, or simulated cells if more genes are to be expressed.

    Simulated donors do not differ. Polygene is told which cells share a donor, as its documentation recommends.
    """
    if n_expressed == EXPRESSED[0]:
        task = tcells()
        for part in (task.train, task.test):
            part.obs[LABEL] = part.obs["ct_cov"]
        return task.train, task.test
    rng = np.random.default_rng(n_expressed)
    rate = -np.log1p(-n_expressed / N_GENES)
    types = rng.gamma(1.0, rate, (5, N_GENES))
    types *= rate / types.mean(1, keepdims=True)
    found = []
    for part, n in (("train", N_CELLS), ("test", N_TEST)):
        codes = rng.integers(0, len(types), n)
        rates = types[codes] * 2.2  # uneven rates leave more genes unexpressed
        obs = pd.DataFrame({LABEL: pd.Categorical([f"type {c}" for c in codes])}, index=[f"cell{i}" for i in range(n)])
        obs["donor"] = pd.Categorical([f"{part} {i % N_DONORS}" for i in range(n)])
        x = sp.csr_matrix(rng.poisson(rates).astype(np.float32))
        found.append(ad.AnnData(x, obs=obs, var=pd.DataFrame(index=[f"gene{i}" for i in range(N_GENES)])))
    return found[0], found[1]


class Logistic:
    """Logistic regression on standardised log1p of counts per 10,000, in its usual form."""

    name = "logistic regression"

    def __init__(self, train: ad.AnnData) -> None:
        self.classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000, C=0.01))
        self.classifier.fit(self.features(train), train.obs[LABEL].astype(str))

    def features(self, cells: ad.AnnData) -> np.ndarray:
        """Convert raw counts to a dense array of features."""
        x = cells.X if isinstance(cells.X, sp.csr_matrix) else cells.X[:]
        copy = ad.AnnData(x.copy())
        sc.pp.normalize_total(copy, target_sum=1e4)
        sc.pp.log1p(copy)
        return copy.X.toarray()

    def predict(self, cells: ad.AnnData) -> np.ndarray:
        return self.classifier.predict(self.features(cells))


class Scanvi:
    """scVI and then scANVI, 50 and 20 epochs, on counts."""

    name = "scANVI"

    def __init__(self, train: ad.AnnData, epochs: tuple[int, int] = (50, 20)) -> None:
        cells = ad.AnnData(train.X, obs=train.obs[[LABEL]].astype(str), var=train.var[[]])
        plan = {"enable_progress_bar": False, "train_size": 1.0, "shuffle_set_split": False}
        with seeded(0):
            scvi.model.SCVI.setup_anndata(cells, labels_key=LABEL)
            first = scvi.model.SCVI(cells)
            first.train(epochs[0], **plan)
            self.model = scvi.model.SCANVI.from_scvi_model(first, unlabeled_category="unlabelled")
            self.model.train(epochs[1], **plan)

    def predict(self, cells: ad.AnnData) -> np.ndarray:
        x = cells.X if isinstance(cells.X, sp.csr_matrix) else cells.X[:]
        obs = pd.DataFrame({LABEL: "unlabelled"}, index=cells.obs_names)
        return np.asarray(self.model.predict(ad.AnnData(x, obs=obs, var=cells.var[[]])))


class Ours:
    """Polygene with the default network."""

    name = OURS

    def __init__(self, train: ad.AnnData, device: str = "cpu", **kwargs: Any) -> None:
        group = "donor" if "donor" in train.obs else None
        accelerator = "gpu" if device == "cuda" else device
        self.model = pgs.tl.train(
            train, phenotypes=LABEL, group_key=group, verbose=False, accelerator=accelerator, **kwargs
        )
        self.model.to_device(device)

    def predict(self, cells: ad.AnnData) -> np.ndarray:
        return self.model.predict_phenotype(cells)[LABEL].idxmax(axis=1).to_numpy()

    def embed(self, cells: ad.AnnData) -> np.ndarray:
        return self.model.get_latent_representation(cells)

    def novelty(self, cells: ad.AnnData) -> np.ndarray:
        return self.model.novelty(cells).to_numpy()


def operations(model: Any, cells: ad.AnnData) -> float:
    """Operations per cell that a prediction requires, on average.

    In the first of two blocks, the contribution of a token by itself is looked up; in the last, only the queried tokens
    are computed. Only the genes that the transformer reads count.
    """
    config, layout = model.module.config, model.layout
    lengths = np.asarray((cells[:, list(model.genes)].X > 0).sum(1), dtype=np.int64).ravel()
    keys = model.module.linear.n_read(torch.from_numpy(lengths)).numpy().astype(float) + layout.n_special
    h, asked = config.n_hidden, layout.n_phenotypes
    after = 2 * h * (h + 2 * config.n_intermediate)  # for a query, after attention
    first = keys * after + 4 * keys**2 * h
    middle = first + 6 * h * h * keys
    last = asked * (after + 6 * h * h) + 4 * asked * config.n_heads * keys * h
    return float((first + (config.n_layers - 2) * middle + last).mean())


def seconds_of(function: Callable[[], Any]) -> float:
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def prepare_prediction(folder: str, path: str, backed: bool) -> Callable[[], Any]:
    """Prepare a prediction of the cells of a file, for `peak_memory`."""
    warnings.simplefilter("ignore")
    model = pgs.model.Polygene.load(folder, adata=False)
    cells = ad.read_h5ad(path, backed="r" if backed else None)
    return lambda: model.predict_phenotype(cells)


def measure(n_expressed: int, repeats: int, trains: bool, device: str = "cpu") -> list[dict[str, Any]]:
    """Rows for one number of expressed genes; tools alternate within a repeat, after a warm-up repeat."""
    train, test = cells_of(n_expressed)
    found = float((test.X > 0).sum(1).mean())
    short = {} if trains else {"max_epochs": SHORT}
    makers: dict[str, Callable[[], Any]] = {
        OURS: lambda: Ours(train, device, **short),
        Logistic.name: lambda: Logistic(train),
        Scanvi.name: lambda: Scanvi(train, (50, 20) if trains else (SHORT, SHORT)),
    }
    rows, tools, shape = [], {}, {"expressed genes": f"{found:.0f}"}
    for name, make in makers.items():
        started = time.perf_counter()
        tools[name] = make()
        if trains:
            seconds = time.perf_counter() - started
            rows.append({**shape, "tool": name, "step": "training", "seconds": seconds})
            rows[-1]["cells/s"] = train.n_obs / seconds
            rows[-1]["accuracy, held out"] = float((tools[name].predict(test) == test.obs[LABEL].astype(str)).mean())
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "test.h5ad")
        test.write_h5ad(path)
        on_disk = ad.read_h5ad(path, backed="r")
        steps = {(name, "prediction"): (tool.predict, test) for name, tool in tools.items()}
        steps |= {(name, "prediction, backed"): (tool.predict, on_disk) for name, tool in tools.items()}
        steps |= {(OURS, step): (getattr(tools[OURS], step), test) for step in ("embed", "novelty")}
        speeds: dict[Any, list[float]] = {key: [] for key in steps}
        products = []
        for repeat in range(repeats + 1):
            products.append(matmul_rate(repeats=3))
            for key, (function, cells) in steps.items():
                speed = test.n_obs / seconds_of(lambda function=function, cells=cells: function(cells))
                speeds[key] += [speed] if repeat else []
        ours = np.array(speeds[OURS, "prediction"])
        needed = operations(tools[OURS].model, test)
        tools[OURS].model.save(str(Path(folder) / "model"), save_anndata=False)
        for (name, step), of_step in speeds.items():
            row = {**shape, "tool": name, "step": step, "cells/s": float(np.median(of_step))}
            row |= {"ratio to ours": float(np.median(np.array(of_step) / ours)), "seconds": test.n_obs / row["cells/s"]}
            if name == OURS and step.startswith("prediction"):
                row["% of matrix-product rate"] = 100 * float(np.median(np.array(of_step) / products[1:])) * needed
                arguments = (str(Path(folder) / "model"), path, step.endswith("backed"))
                row["peak GiB"] = peak_memory(prepare_prediction, *arguments) / GIB
            rows.append(row)
        on_disk.file.close()
    return rows


def users_rows(expressed: Sequence[int], repeats: int, trains: bool, device: str) -> list[dict[str, Any]]:
    """All rows, including those that could not be measured."""
    if device == "cuda" and not torch.cuda.is_available():
        return [{"expressed genes": "any", "tool": OURS, "step": "not measured: torch sees no GPU"}]
    rows = [row for n in expressed for row in measure(n, repeats, trains, device)]
    # its trainer passes an argument that scikit-learn 1.8 and later do not accept
    return [*rows, {"expressed genes": "any", "tool": "CellTypist", "step": "not run"}]
