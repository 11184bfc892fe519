"""Cells to test with: simulated ones, those inside scanpy, and real ones where they are present."""

import os

os.environ.setdefault("NUMBA_NUM_THREADS", "1")  # compiled loops beside torch's threads: both would spin
os.environ.setdefault("OMP_NUM_THREADS", "1")

import copy
import warnings
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import matplotlib
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import scipy.sparse as sp
from anndata import AnnData

import polygene_scverse as pgs

matplotlib.use("Agg")

DATA = Path(os.environ.get("POLYGENE_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))


@pytest.fixture(scope="session")
def shared_data():
    """Folder of the real data sets."""
    if not DATA.is_dir():
        pytest.skip(f"no real data in {DATA}; set POLYGENE_TEST_DATA to their folder")
    return DATA


@pytest.fixture(scope="session")
def original():
    """What the original Polygene computed: ``tokens``, ``expected`` (arrays by name) and the paths of its files."""
    folder = DATA.parent / "original"
    if not folder.is_dir():
        pytest.skip(f"no vectors of the original in {folder}; set POLYGENE_TEST_DATA to the folder beside it")
    return SimpleNamespace(
        tokens=dict(np.load(folder / "tokens.npz", allow_pickle=False)),
        expected=dict(np.load(folder / "expected.npz", allow_pickle=False)),
        cells=folder / "cells.h5ad",
        vocabulary=folder / "phenotypic_vocab",
        vocab_json=folder / "vocab.json",
        checkpoint=folder / "checkpoint",
    )


@pytest.fixture(scope="session")
def _simulated():
    """300 cells x 60 genes of counts: a base rate per gene times what cell type, sex and donor do to it."""
    rng = np.random.default_rng(0)
    n_obs, n_vars = 300, 60
    cell_type, sex, donor = rng.integers(0, 3, n_obs), rng.integers(0, 2, n_obs), np.arange(n_obs) % 6
    log_rate = rng.normal(-0.5, 0.8, n_vars) + rng.normal(0.0, 0.4, (n_obs, 1))
    for k in range(3):
        log_rate[:, 10 * k : 10 * k + 10] += 2.0 * (cell_type == k)[:, None]
    log_rate[:, 30:36] += 2.0 * sex[:, None]
    log_rate += rng.normal(0.0, 0.3, (6, n_vars))[donor]
    counts = rng.poisson(rng.gamma(2.0, np.exp(log_rate) / 2.0)).astype(np.float32)
    obs = pd.DataFrame(
        {
            "cell_type": pd.Categorical(np.array(["B cell", "NK cell", "T cell"])[cell_type]),
            "sex": pd.Categorical(np.array(["female", "male"])[sex], categories=["female", "male", "unknown"]),
            "donor": pd.Categorical([f"donor{d}" for d in donor]),
        },
        index=[f"cell{i}" for i in range(n_obs)],
    )
    obs.iloc[rng.choice(n_obs, 12, replace=False), 0] = np.nan
    obs.iloc[rng.choice(n_obs, 9, replace=False), 1] = np.nan
    return AnnData(sp.csr_matrix(counts), obs=obs, var=pd.DataFrame(index=[f"gene{i}" for i in range(n_vars)]))


@pytest.fixture
def simulated(_simulated):
    """Counts that depend on ``cell_type`` (3), ``sex`` (2), some of both missing, and ``donor`` (6)."""
    return _simulated.copy()


@pytest.fixture(scope="session")
def small():
    """Arguments that make a training short."""
    network = {"n_hidden": 16, "n_layers": 1, "n_intermediate": 16}
    return {"max_epochs": 2, "verbose": False, "model_kwargs": network}


@pytest.fixture(scope="session")
def _simulated_and_model(_simulated, small):
    adata = _simulated.copy()
    return adata, pgs.tl.train(adata, phenotypes=["cell_type", "sex"], **small)


@pytest.fixture
def simulated_and_model(_simulated_and_model):
    """Simulated cells that a model was trained on, and the model; copies, so that tests may change both."""
    from polygene_scverse.tl._models import remember

    adata, model = _simulated_and_model
    adata, model = adata.copy(), _apart(model)
    model.module = copy.deepcopy(model.module)
    remember(adata, model)
    return adata, model


@pytest.fixture(scope="session")
def _pbmc():
    reduced = sc.datasets.pbmc68k_reduced()
    adata = reduced.raw.to_adata()
    adata.X = sp.csr_matrix(adata.X)
    return AnnData(adata.X, obs=reduced.obs, var=adata.var[[]], obsm={"X_umap": reduced.obsm["X_umap"]})


@pytest.fixture
def pbmc(_pbmc):
    """700 blood cells x 765 genes, log1p of counts per 10,000, with ``bulk_labels`` (10) and ``phase`` (3)."""
    return _pbmc.copy()


@pytest.fixture
def write_files(tmp_path):
    """A function that writes cells as files of 120, 50 and 130 cells, and returns their paths."""

    def write(adata, cuts=(0, 120, 170, 300), suffix="h5ad", change=lambda i, part: part):
        paths = []
        for i, (start, stop) in enumerate(pairwise(cuts)):
            part = change(i, adata[start:stop].copy())
            paths.append(tmp_path / f"shard_{i}.{suffix}")
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="Writing zarr v2 data")
                part.write_h5ad(paths[-1]) if suffix == "h5ad" else part.write_zarr(paths[-1])
        return paths

    return write


# small models of simulated cells; what is heavy is imported when it is needed

NAMES = ("cell_type", "sex")
SMALL = {"n_hidden": 16, "n_layers": 1, "n_heads": 2, "n_intermediate": 16}


def _cells(n_obs=60, n_vars=40, **kwargs):
    from polygene_scverse.datasets import simulate

    return simulate(n_obs, n_vars, **kwargs)


def _model_of(adata=None, phenotypes=NAMES, setup=None, **kwargs):
    from polygene_scverse.model import Polygene

    adata = _cells() if adata is None else adata
    Polygene.setup_anndata(adata, phenotype_keys=list(phenotypes), **(setup or {}))
    return Polygene(adata, **{"genes": list(adata.var_names), **SMALL, **kwargs})


def _trained(adata=None, model_kwargs=None, **kwargs):
    model = _model_of(adata, **(model_kwargs or {}))
    model.train(**{"max_epochs": 1, "enable_progress_bar": False, **kwargs})
    return model


def _apart(model):
    model = copy.copy(model)
    model.fitted_ = copy.deepcopy(model.fitted_)
    return model


@pytest.fixture
def cells():
    """A function that simulates cells; 60 x 40 by default."""
    return _cells


@pytest.fixture
def model_of():
    """A function that makes an untrained model of some cells."""
    return _model_of


@pytest.fixture
def trained():
    """A function that makes a model and trains it, for one epoch by default."""
    return _trained


@pytest.fixture
def apart():
    """A function that copies a model: the network and the data are shared, what was fitted to it is not."""
    return _apart


@pytest.fixture(scope="session")
def trained_model():
    """A model trained on 80 cells, with 36 of the 40 genes of `query`. Tests leave it as it is."""
    adata = _cells(80, missing=0.1, effect=2.0)
    kwargs = {"genes": list(adata.var_names[:36]), "n_layers": 2, "dropout": 0.3}
    return _trained(adata, kwargs, max_epochs=6, plan_kwargs={"lr": 0.01})


@pytest.fixture
def query():
    """50 other cells."""
    return _cells(50, seed=1)
