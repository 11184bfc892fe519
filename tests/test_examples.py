"""The examples in docstrings run, and print what they say."""

import doctest
import importlib
import inspect
import warnings

import matplotlib.pyplot as plt
import numpy as np
import pytest
import scanpy as sc

import polygene_scverse as pgs

ROOMS = ("pp", "tl", "get", "pl", "metrics", "datasets")
ELSEWHERE = {
    "datasets.pretrained": "downloads",
    "datasets.tabula_sapiens": "downloads",
    "tl.train": "takes a minute, and 47 files; the README and the first tutorial hold it",
}
SLOW = {"tl.evaluate", "tl.audit", "tl.estimate_cost", "get.evaluation", "get.audit", "pl.evaluation"}
GENES = ["STAT1", "IRF7", "STAT2", "CD79A"]
KEPT = doctest.OutputChecker()


class Checker(doctest.OutputChecker):
    """What an example does not show may be anything."""

    def check_output(self, want, got, optionflags):
        return not want or KEPT.check_output(want, got, optionflags)


def examples():
    for room in ROOMS:
        module = importlib.import_module(f"polygene_scverse.{room}")
        for name in module.__all__:
            key, function = f"{room}.{name}", getattr(module, name)
            found = doctest.DocTestParser().get_examples(inspect.getdoc(function) or "")
            if found and key not in ELSEWHERE:
                yield pytest.param(function, found, id=key, marks=[pytest.mark.slow] * (key in SLOW))


@pytest.fixture(scope="module")
def variables(tmp_path_factory):
    """The variables of the examples: cells with the columns and genes that they name, and a model."""
    rng = np.random.default_rng(0)
    phenotypes = {"cell_type": 3, "condition": 2, "disease": 2, "tissue": 2, "sex": 2}
    adata = pgs.datasets.simulate(240, 60, phenotypes=phenotypes, effect=2.0)
    often = np.argsort(-np.asarray((adata.X > 0).sum(0)).ravel(), kind="stable")[: len(GENES)]
    names = dict(zip(adata.var_names[often], GENES, strict=True))
    adata.var_names = [names.get(name, name) for name in adata.var_names]
    adata.obs["cell_type"] = adata.obs["cell_type"].cat.rename_categories(["B cell", "NK cell", "T cell"])
    adata.obs["condition"] = adata.obs["condition"].cat.rename_categories(["control", "stimulated"])
    adata.obs["disease"] = adata.obs["disease"].cat.rename_categories(["healthy", "lupus"])
    adata.obs["sample"] = adata.obs["donor"].astype(str) + "_" + adata.obs["sex"].astype(str)
    adata.obs.loc[adata.obs_names[::10], "sex"] = np.nan
    folder = tmp_path_factory.mktemp("examples")
    short = {"max_epochs": 2, "verbose": False, "model_kwargs": {"n_hidden": 16, "n_layers": 1, "n_intermediate": 16}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = pgs.tl.train(adata, phenotypes=list(phenotypes), save_to=folder / "my_model", **short)
        pgs.tl.predict_phenotype(adata, coverage=0.9)
        pgs.tl.embed(adata)
        pgs.tl.novelty(adata)
        pgs.tl.score_tokens(adata)
        pgs.tl.gene_interactions(adata, groupby="cell_type")
        pgs.tl.biomarkers(adata, "disease", contexts="cell_type", group_key="donor", n_cells=2)
        pgs.tl.polyfunctionality(adata, "tissue", group_key="donor", n_permutations=100)
        train, test = adata[np.arange(adata.n_obs) % 3 > 0].copy(), adata[::3].copy()
        cells = pgs.tl.generate(test.obs[["cell_type", "condition"]], model=model)
        pgs.tl.check_generated(cells, test, training=train, groupby="cell_type")
    return folder, {
        "adata": adata,
        "model": model,
        "held_out": rng.permutation(adata.n_obs)[:60],
        "train": train,
        "test": test,
        "cells": cells,
        "panel": adata[:, :30].copy(),
        "pgs": pgs,
        "sc": sc,
        "np": np,
    }


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("function", "found"), examples())
def test_example(function, found, variables, monkeypatch):
    folder, names = variables
    monkeypatch.chdir(folder)
    monkeypatch.setattr(plt, "show", lambda: None)
    names = {**names, function.__name__: function}
    if function.__module__.endswith((".get._evaluation", ".pl._evaluation")):
        pgs.tl.evaluate(names["adata"], phenotypes="cell_type", split=2, baselines="majority", n_bootstrap=20)
    if function.__module__.endswith(".get._audit"):
        pgs.tl.audit(names["adata"], phenotypes="cell_type", n_folds=2, max_epochs=1)
    test = doctest.DocTest(found, names, function.__name__, None, None, None)
    said = []
    doctest.DocTestRunner(Checker()).run(test, out=said.append)
    plt.close("all")
    assert not said, "".join(said)


def test_every_example_is_run_or_excused():
    assert all(
        hasattr(importlib.import_module(f"polygene_scverse.{k.partition('.')[0]}"), k.partition(".")[2])
        for k in ELSEWHERE
    )
