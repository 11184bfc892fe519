"""Cells on demand."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from anndata import AnnData

from polygene_scverse._constants import GENERATE, UNS
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
    batch_size: int = 64,
) -> AnnData:
    """Draw new cells of given phenotypes.

    All genes of a cell are drawn together, from two things that a training fits in closed form to counts of the
    training cells: how often each gene has each count in cells of these phenotypes, log-linear in the phenotypes, so
    that rare and unseen combinations borrow from others; and a Gaussian copula with few factors, what genes do together
    within combinations of phenotypes, depth included: frequent combinations have factors of their own, in which the
    cells of all others count for 500. The network has no part in it. Drawn by the network in rounds
    (`n_rounds`), cells keep means of the phenotypes, but hardly what genes do together:
    ``docs/generation.md`` has figures of both, and :func:`~polygene_scverse.tl.check_generated` those of your cells.

    Such cells repeat what the model learned of the training cells. They are no new evidence: do not test hypotheses on
    them, and do not take them for cells of donors or conditions that nobody measured. They are not anonymous either:
    no privacy is promised.

    Parameters
    ----------
    given
        Category of some phenotypes, such as ``{"cell_type": "B cell", "disease": "healthy"}``, or a table with a row
        for each cell and a column for each phenotype that is given. Phenotypes that are not given, or missing in a row,
        are drawn as often as training cells with the given ones have them.
    n_obs
        Number of cells; not needed with a table.
    model
        A model, or the folder it was saved to.
    seed
        Seed of all draws: the same seed gives the same cells.
    n_rounds
        Draws genes by the network instead, in so many rounds: bins of some more genes in each, in view of the
        phenotypes and of the genes drawn before; genes of one round are drawn independently of each other. Where the
        training cells' expression is not that of counts, or the model was saved by an earlier version, this is done in
        10 rounds by default.
    temperature
        What logits are divided by; below 1 cells are more alike than the training cells.
    depth
        Total counts of each cell. By default drawn as of the training cells of these phenotypes.
    allow_unseen
        Whether phenotypes may be combined as in no training cell; such cells are marked.
    batch_size
        Cells per step, fewer where many genes are drawn at once.

    Returns
    -------
    New AnnData (n_obs x n_genes of the model). ``X`` is log1p of counts per 10,000 and ``layers["counts"]`` the counts,
    both sparse. ``obs`` holds every phenotype, ``obs["total_counts"]``, the total count of the cell, genes that the
    model does not have included, and ``obs["unseen"]``, whether no training cell had the given phenotypes together.
    ``uns["polygene"]["generate"]`` holds the arguments.

    Raises
    ------
    ValueError
        If the model has no gene decoder or was saved by a version that did not keep what is needed, if a phenotype or
        category is not the model's, if no training cell had the given ones together and `allow_unseen` is False, if
        `n_obs` is below 1, missing or not the number of rows, if the cells would take more than 4 GB, if a number is
        out of range, or if `depth` is None and the training cells hold no whole counts.
    TypeError
        If `given` or `model` is something else.

    Examples
    --------
    >>> cells = pgs.tl.generate({"cell_type": "B cell"}, n_obs=500, model=model)
    """
    if model is None:
        raise TypeError("`model`: found None. Pass a Polygene model or a folder it was saved to.")
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
    """A row for each cell."""
    if isinstance(given, pd.DataFrame):
        if n_obs is not None and n_obs != len(given):
            raise ValueError(
                f"`n_obs`: found {n_obs}, but `given` has {len(given)} rows, one for each cell. Leave n_obs out."
            )
        return given
    if not isinstance(given, Mapping):
        raise TypeError(
            f"`given`: found {type(given).__name__}. Pass a mapping of phenotypes to categories, or a table."
        )
    if n_obs is None or n_obs < 1:
        raise ValueError(f"`n_obs`: found {n_obs}, but at least one cell is needed. Pass 1 or more.")
    model.check_n_obs(n_obs)
    index = pd.RangeIndex(n_obs).map(lambda i: f"generated{i}")
    return pd.DataFrame({name: [category] * n_obs for name, category in given.items()}, index=index)
