"""Predict several phenotypes jointly."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from mudata import MuData

from polygene_scverse._constants import JOINT, JOINT_ENDS, note_key
from polygene_scverse._validate import (
    check_free,
    check_key_added,
    check_names,
    check_not_empty,
    check_notes,
    notes_of,
    write_notes,
)
from polygene_scverse.model import Polygene
from polygene_scverse.tl._models import cells_and_model

MOST_VALUES = 20_000_000
"""Maximum number of probabilities in memory at a time."""


def joint_phenotype(
    adata: AnnData | MuData,
    *,
    phenotypes: Sequence[str],
    given: str | Sequence[str] | None = None,
    key_added: str = JOINT,
    model: Polygene | str | Path | None = None,
    gene_symbols: str | None = None,
    gene_ids: str | None = None,
    mod: str | None = None,
    batch_size: int = 128,
) -> None:
    """Predict several phenotypes jointly, so that they are consistent with each other.

    If phenotypes that depend on each other are predicted separately, the predictions can form a combination that does
    not exist. Here, the probability of a combination is that of the first phenotype times that of the second given the
    first, and so on, averaged over all orders of the phenotypes.

    Parameters
    ----------
    adata
        Cells to predict. Genes are matched by name.
    phenotypes
        Two or more phenotypes of the model, with at most 5,000 combinations of categories. The number of passes through
        the network grows with the number of combinations.
    given
        Other phenotypes to show to the model as evidence, in cells where they are known.
    key_added
        Obs column to write to, and prefix of the other columns.
    model
        A model, or the folder it was saved to. By default the one last trained on `adata`.
    gene_symbols, gene_ids
        Columns of ``var`` with gene symbols or Ensembl ids, tried before ``var_names``, see
        :meth:`~polygene_scverse.model.Polygene.gene_names`.
    mod
        Modality to use, for MuData; by default the one that the model was trained on, or ``"rna"``.
    batch_size
        Number of cells per step.

    Returns
    -------
    None. Writes ``obs["polygene_joint"]``, the most probable combination such as ``"T cell | female"``;
    ``obs["polygene_joint_probability"]``, its probability; ``obs["polygene_joint_impossible"]``, the total probability
    of combinations with two categories that never occurred together in a training cell (a high value means that the
    cell is unlike the training cells, or that the model is uncertain); ``obs["polygene_joint_flagged"]``, whether the
    most probable combination is one of these; and ``uns["polygene"]["joint"]``, the phenotypes of each column.

    Raises
    ------
    ValueError
        If no model is found, if there are fewer than two phenotypes, if the model does not have one of them, if one is
        named twice or also in `given`, if there are too many combinations, if no gene matches, or if expression has the
        wrong scale.
    KeyError
        If a phenotype in `given` is not an obs column.

    Examples
    --------
    >>> pgs.tl.joint_phenotype(adata, phenotypes=["cell_type", "tissue"])
    """
    check_key_added(key_added)
    data, trained = cells_and_model(adata, model, mod)
    check_notes(data, "joint")
    check_free(data, "joint_phenotype", [f"{key_added}{end}" for end in JOINT_ENDS], trained.categories)
    check_not_empty(*data.shape)
    names = check_names(phenotypes, "phenotypes")
    impossible = ~trained.seen_together(names).ravel()
    block = max(1, MOST_VALUES // len(impossible))
    best, probability, mass = [], [], []
    asked: dict[str, Any] = {"phenotypes": names, "given": given, "batch_size": batch_size}
    asked |= {"gene_symbols": gene_symbols, "gene_ids": gene_ids}
    for start in range(0, data.n_obs, block):
        rows = np.arange(start, min(start + block, data.n_obs))
        values = trained.joint_phenotype(data, indices=rows, **asked)
        values = values.reshape(len(rows), -1)  # (n_rows, n_combinations)
        best.append(values.argmax(axis=1))
        probability.append(values.max(axis=1))
        mass.append(values[:, impossible].sum(axis=1))
    chosen = np.concatenate(best)
    labels = _labels(chosen, [trained.categories[name] for name in names])
    parts = (labels, np.concatenate(probability), np.concatenate(mass), impossible[chosen])
    for end, values in zip(JOINT_ENDS, parts, strict=True):
        data.obs[f"{key_added}{end}"] = values
    write_notes(data, joint={**notes_of(data).get("joint", {}), note_key(key_added): names})


def _labels(chosen: np.ndarray, categories: Sequence[Sequence[str]]) -> pd.Categorical[str]:
    """Combinations that occur, in the order of the model's categories."""
    used, codes = np.unique(chosen, return_inverse=True)
    parts = np.unravel_index(used, [len(names) for names in categories])
    texts = [" | ".join(names[c] for names, c in zip(categories, row, strict=True)) for row in zip(*parts, strict=True)]
    return pd.Categorical.from_codes(codes, categories=pd.Index(texts))
