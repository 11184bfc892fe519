"""Predicted phenotypes into obs and obsm."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from anndata import AnnData
from mudata import MuData

from polygene_scverse._constants import BALANCE, UNS, confidence_key, prediction_key, probability_key
from polygene_scverse.model import Polygene
from polygene_scverse.tl._models import anndata_of, find


def predict_phenotype(
    adata: AnnData | MuData,
    *,
    phenotypes: str | Sequence[str] | None = None,
    given: str | Sequence[str] | None = None,
    balance: float = BALANCE,
    model: Polygene | str | Path | None = None,
    mod: str = "rna",
    batch_size: int = 64,
) -> None:
    """Predict phenotypes.

    Recorded phenotypes of a cell are not shown to the model unless `given` names them.

    Parameters
    ----------
    adata
        Cells to predict; genes are matched by name, unmeasured ones are left out.
    phenotypes
        Phenotypes to predict; all of the model by default.
    given
        Phenotypes to show as evidence, in the cells where they are known.
    balance
        How a category is chosen: by probability / (share of the training cells) ** `balance`. 0 takes the most probable
        one; the default finds more of the rare ones at little cost of accuracy. Probabilities do not depend on it.
    model
        A model, or the folder it was saved to. By default the one last trained on `adata`.
    mod
        Modality to read and write, for MuData.
    batch_size
        Cells per step.

    Returns
    -------
    Nothing. Writes for each phenotype the chosen category ``obs["polygene_<phenotype>"]``, its probability
    ``obs["polygene_<phenotype>_confidence"]``, the probabilities of all categories
    ``obsm["polygene_<phenotype>_proba"]`` (n_obs x n_categories), their names ``uns["polygene"]["predict"]`` (read both
    with ``pgs.get.probabilities``), `balance` as ``uns["polygene"]["balance"]``, and, where ``uns`` has colours of the
    recorded categories, the same for the predicted ones.

    Raises
    ------
    ValueError
        If no model is found, if `balance` is not between 0 and 1, if a phenotype is not the model's, if no gene
        matches, or if expression has the wrong scale.
    """
    data = anndata_of(adata, mod)
    trained = find(adata, model)
    noted = dict(data.uns.get(UNS, {}).get("predict", {}))
    tables = trained.predict_phenotype(data, phenotypes=phenotypes, given=given, batch_size=batch_size)
    chosen = trained.decide(tables, balance=balance)
    for name, table in tables.items():
        codes = chosen[name].cat.codes.to_numpy()
        data.obs[prediction_key(name)] = chosen[name].array
        data.obs[confidence_key(name)] = table.to_numpy()[np.arange(len(codes)), codes]
        data.obsm[probability_key(name)] = table.to_numpy()
        noted[name] = list(table.columns)
        _keep_colors(data, name, list(table.columns))
    data.uns[UNS] = {**data.uns.get(UNS, {}), "predict": noted, "balance": balance}


def _keep_colors(data: AnnData, name: str, categories: list[str]) -> None:
    """Give a predicted category the colour of the recorded one."""
    colors = data.uns.get(f"{name}_colors")
    if colors is None or name not in data.obs:
        return
    recorded = dict(zip(data.obs[name].astype("category").cat.categories.astype(str), colors, strict=False))
    if set(categories) <= set(recorded):
        data.uns[f"{prediction_key(name)}_colors"] = [recorded[category] for category in categories]
