"""Generate cells with given phenotypes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from anndata import AnnData

from polygene_scverse._constants import GENERATE, UNS
from polygene_scverse._validate import check_whole
from polygene_scverse.model import Polygene
from polygene_scverse.tl._models import find


def generate(
    given: Mapping[str, Any] | pd.DataFrame,
    *,
    n_obs: int | None = None,
    model: Polygene | str | Path,
    seed: int = 0,
    n_rounds: int | None = None,
    temperature: float = 1.0,
    depth: float | None = None,
    allow_unseen: bool = False,
    batch_size: int = 128,
) -> AnnData:
    """Generate new cells with given phenotypes.

    All genes of a cell are drawn jointly from a statistical model that training fits in closed form to the counts of
    the training cells: a log-linear model of how often each gene has each count given the phenotypes, so that rare and
    unseen combinations borrow information from others, and a low-rank Gaussian copula for the correlation of genes and
    depth. Frequent combinations of phenotypes have their own copula factors, in which all other cells together have the
    weight of 500 cells. The network is not used. If genes are drawn by the network in rounds instead (`n_rounds`), the
    means of the phenotypes are reproduced, but hardly any of the correlation between genes. ``docs/generation.md``
    compares both, and :func:`~polygene_scverse.tl.check_generated` evaluates your own cells.

    Generated cells reproduce what was learned from the training cells and are not new evidence. Do not test hypotheses
    on them, and do not use them as a substitute for donors or conditions that were not measured. Privacy of the
    training cells is not guaranteed.

    Parameters
    ----------
    given
        Categories of some phenotypes, such as ``{"cell_type": "B cell", "disease": "healthy"}``, or a table with a row
        for each cell and a column for each given phenotype. Phenotypes that are not given, or missing in a row, are
        sampled from the training cells that have the given ones.
    n_obs
        Number of cells; not needed if `given` is a table.
    model
        A model, or the folder it was saved to.
    seed
        Random seed; the same seed gives the same cells.
    n_rounds
        Number of rounds in which the network draws genes. In each round it draws the bins of a further set of genes,
        given the phenotypes and the genes drawn before; genes of one round are drawn independently. By default the
        network is not used, unless the training data were not counts or the model was saved by an earlier version; in
        these cases the default is 10.
    temperature
        Divides the logits; with values below 1, cells are more alike than the training cells.
    depth
        Total counts of each cell. By default drawn from those of the training cells with these phenotypes.
    allow_unseen
        Whether to allow combinations of phenotypes that no training cell had; such cells are marked.
    batch_size
        Number of cells per step; reduced if many genes are drawn at once.

    Returns
    -------
    New AnnData (n_obs x n_genes of the model). ``X`` is log1p of counts per 10,000 and ``layers["counts"]`` the counts,
    both sparse. ``obs`` has all phenotypes, ``obs["total_counts"]`` (total counts of the cell, including genes that are
    not in the model) and ``obs["unseen"]`` (True if no training cell had this combination of phenotypes).
    ``uns["polygene"]["generate"]`` holds the arguments.

    Raises
    ------
    ValueError
        If the model has no gene decoder or was saved by a version that did not store the required statistics, if the
        model does not have a phenotype or category, if no training cell had the given combination and `allow_unseen` is
        False, if `n_obs` is below 1, missing or different from the number of rows, if the cells would take more than 4
        GB, if a number is out of range, or if `depth` is None and the training data were not integer counts.
    TypeError
        If `given` or `model` has another type.

    Examples
    --------
    >>> cells = pgs.tl.generate({"cell_type": "B cell"}, n_obs=500, model=model)
    """
    if model is None:
        raise TypeError("`model`: found None. Pass a Polygene model or the folder it was saved to.")
    trained = find(AnnData(), model)
    table = _table(given, n_obs, trained)
    found = trained.generate(
        table,
        seed=seed,
        n_rounds=n_rounds,
        temperature=temperature,
        depth=depth,
        allow_unseen=allow_unseen,
        batch_size=batch_size,
    )
    note: dict[str, Any] = {"seed": seed, "n_rounds": n_rounds or 0, "temperature": temperature}
    note["given"] = [str(name) for name in table.columns]
    found.uns[UNS] = {GENERATE: note}
    return found


def _table(given: Mapping[str, Any] | pd.DataFrame, n_obs: int | None, model: Polygene) -> pd.DataFrame:
    """One row for each cell."""
    if isinstance(given, pd.DataFrame):
        if n_obs is not None and n_obs != len(given):
            raise ValueError(
                f"`n_obs`: found {n_obs}, but `given` has {len(given)} rows, one per cell. Leave n_obs out."
            )
        return given
    if not isinstance(given, Mapping):
        raise TypeError(
            f"`given`: found {type(given).__name__}. Pass a mapping of phenotypes to categories, or a table."
        )
    n = check_whole(n_obs, "n_obs", 1)
    model.check_n_obs(n)
    index = pd.RangeIndex(n).map(lambda i: f"generated{i}")
    return pd.DataFrame({name: [category] * n for name, category in given.items()}, index=index)
