import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import scanpy as sc


@pytest.fixture(autouse=True)
def _no_windows(monkeypatch):
    """Figures are not shown, and closed after each test."""
    monkeypatch.setattr(plt, "show", lambda: None)
    yield
    plt.close("all")


@pytest.fixture
def settings():
    """scanpy's settings, which are given back."""
    names = ("figdir", "file_format_figs", "autosave", "autoshow")
    before = {name: getattr(sc.settings, name) for name in names}
    yield sc.settings
    for name, value in before.items():
        setattr(sc.settings, name, value)


@pytest.fixture
def drawn(pbmc):
    """Blood cells with predictions (every fifth is wrong), an embedding, and a training of four epochs."""
    rng, noted = np.random.default_rng(0), {}
    for name in ("bulk_labels", "phase"):
        categories = list(pbmc.obs[name].cat.categories)
        codes = pbmc.obs[name].cat.codes.to_numpy().copy()
        codes[::5] = (codes[::5] + 1) % len(categories)
        probabilities = np.full((pbmc.n_obs, len(categories)), 0.2 / len(categories))
        probabilities[np.arange(pbmc.n_obs), codes] += 0.8
        pbmc.obs[f"polygene_{name}"] = pd.Categorical.from_codes(codes, categories=categories)
        pbmc.obs[f"polygene_{name}_confidence"] = rng.uniform(0.5, 1, pbmc.n_obs)
        pbmc.obsm[f"polygene_{name}_proba"] = probabilities
        noted[name] = categories
    pbmc.obsm["X_polygene_umap"] = pbmc.obsm["X_umap"]
    metrics = ["train_loss", "gene_loss_train", "phenotype_loss_train", "validation_loss", "gene_loss_validation"]
    metrics += ["gene_nll_validation"]
    metrics += ["phenotype_loss_validation", "gene_accuracy_validation", "gene_accuracy_expressed_validation"]
    metrics += [f"{p}_{s}_validation" for p in ("bulk_labels", "phase") for s in ("accuracy", "macro_f1")]
    history = {name: rng.uniform(0, 1, 4) for name in metrics}
    pbmc.uns["polygene"] = {"train": {"phenotypes": list(noted), "history": history}, "predict": noted}
    return pbmc
