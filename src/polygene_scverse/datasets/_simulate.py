"""Simulated cells with known phenotypes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData
from numpy.typing import NDArray

from polygene_scverse._validate import check_fraction, check_kwargs, check_whole

CELLS_PER_BLOCK = 4096
"""Number of cells drawn at a time, to limit memory use."""
MARKER_SHARE = 0.5
"""Fraction of genes that are markers."""


def simulate(
    n_obs: int = 500,
    n_vars: int = 200,
    *,
    phenotypes: Mapping[str, int] | None = None,
    n_groups: int = 6,
    seed: int = 0,
    missing: float = 0.0,
    effect: float = 1.5,
    group_effect: float = 0.2,
    mean_count: float = 0.5,
    dispersion: float = 0.5,
) -> AnnData:
    """Simulate negative-binomial counts of cells with known phenotypes and marker genes.

    Half of the genes are markers, distributed over the categories of all phenotypes; a marker is expressed
    ``exp(effect)`` times higher in cells of its category. Phenotypes and donors are independent of each other, with
    equally frequent categories. Each donor has a small effect on each gene.

    Parameters
    ----------
    n_obs
        Number of cells.
    n_vars
        Number of genes.
    phenotypes
        Name of each phenotype and its number of categories; by default ``{"cell_type": 3, "sex": 2}``.
    n_groups
        Number of donors.
    seed
        Random seed.
    missing
        Fraction of missing values in each phenotype.
    effect
        Log fold change of a marker.
    group_effect
        Standard deviation of the log fold change of a gene in a donor.
    mean_count
        Mean count of a gene in a cell, before marker effects. The means of genes are log-normally distributed around
        it; a low value gives sparse data.
    dispersion
        The variance of a count with mean m is ``m + dispersion * m**2``.

    Returns
    -------
    AnnData with counts (n_obs x n_vars; CSR, float32). ``obs`` has a categorical column for each phenotype and
    ``"donor"``; ``obsm["truth"]`` has the phenotypes without missing values. ``var["phenotype"]`` and
    ``var["category"]`` name the phenotype and category that a gene is a marker of, and are empty for other genes.
    ``uns["simulation"]`` has the arguments.

    Raises
    ------
    ValueError
        If `missing` is not between 0 and 1, if a phenotype has fewer than two categories, or if there are fewer cells
        than categories or donors, or fewer markers than categories.
    TypeError
        If `phenotypes` is not a mapping.

    Examples
    --------
    >>> pgs.datasets.simulate(1000, 300, phenotypes={"cell_type": 5, "disease": 2}, missing=0.1)
    """
    sizes = {"cell_type": 3, "sex": 2} if phenotypes is None else check_kwargs(phenotypes, "phenotypes")
    check_whole(n_obs, "n_obs", 1)
    check_whole(n_vars, "n_vars", 1)
    n_markers = round(n_vars * MARKER_SHARE)
    _check(n_obs, n_markers, sizes, n_groups, missing)
    rng = np.random.default_rng(seed)
    codes = {name: rng.permutation(n_obs) % size for name, size in sizes.items()}  # each (n_obs,)
    donors = rng.permutation(n_obs) % n_groups
    var = _markers(rng.permutation(n_vars)[:n_markers], n_vars, sizes)
    log_mean = np.log(mean_count) + rng.normal(-0.5, 1.0, n_vars)  # the exponential has mean mean_count
    by_donor = rng.normal(0.0, group_effect, (n_groups, n_vars))
    depth = rng.normal(0.0, 0.3, n_obs)
    shifts = [(codes[name], _shifts(var, name, size, effect)) for name, size in sizes.items()]

    def counts(rows: NDArray[np.integer]) -> sp.csr_matrix:
        log_rate = log_mean + depth[rows, None] + by_donor[donors[rows]]  # (n_rows, n_vars)
        for labels, table in shifts:
            log_rate += table[labels[rows]]
        rate = np.exp(log_rate)
        if dispersion > 0:
            rate *= rng.gamma(1 / dispersion, dispersion, rate.shape)  # mean 1: makes the Poisson negative binomial
        return sp.csr_matrix(rng.poisson(rate), dtype=np.float32)

    blocks = [counts(np.arange(i, min(i + CELLS_PER_BLOCK, n_obs))) for i in range(0, n_obs, CELLS_PER_BLOCK)]
    cells = [f"cell_{i}" for i in range(n_obs)]
    truth = pd.DataFrame({name: _named(name, codes[name], sizes[name]) for name in sizes}, index=cells)
    obs = truth.mask(rng.random(truth.shape) < missing)
    obs["donor"] = _named("donor", donors, n_groups)
    note = {"seed": seed, "missing": missing, "effect": effect, "group_effect": group_effect}
    note |= {"mean_count": mean_count, "dispersion": dispersion}
    return AnnData(sp.vstack(blocks, format="csr"), obs=obs, var=var, obsm={"truth": truth}, uns={"simulation": note})


def _check(n_obs: int, n_markers: int, sizes: Mapping[str, int], n_groups: int, missing: float) -> None:
    check_fraction(missing, "missing")
    if few := [name for name, size in sizes.items() if size < 2]:
        raise ValueError(
            f"`phenotypes`: {few} have fewer than 2 categories, so there is nothing to predict. Pass 2 or more."
        )
    most = max([n_groups, *sizes.values()])
    if n_obs < most:
        raise ValueError(f"`n_obs`: found {n_obs} cells, but {most} categories or donors. Pass at least as many cells.")
    if n_markers < sum(sizes.values()):
        raise ValueError(
            f"`n_vars`: {n_markers} markers are not enough for {sum(sizes.values())} categories. Pass at least "
            "twice as many genes as categories."
        )


def _named(name: str, codes: NDArray[np.integer], size: int) -> pd.Categorical[str]:
    """Categorical with the categories ``name_0``, ``name_1`` and so on."""
    categories = pd.Index([f"{name}_{i}" for i in range(size)])
    return pd.Categorical.from_codes(codes, categories=categories)


def _markers(genes: NDArray[np.integer], n_vars: int, sizes: Mapping[str, int]) -> pd.DataFrame:
    """Assign the marker genes in turn to the categories of all phenotypes."""
    owners = [(name, f"{name}_{i}") for name, size in sizes.items() for i in range(size)]
    table: NDArray[np.object_] = np.full((n_vars, 2), "", dtype=object)
    table[genes] = [owners[i % len(owners)] for i in range(len(genes))]
    return pd.DataFrame(table, columns=["phenotype", "category"], index=[f"gene_{i}" for i in range(n_vars)])


def _shifts(var: pd.DataFrame, name: str, size: int, effect: float) -> NDArray[np.float64]:
    """Log fold change of each gene in each category of a phenotype; shape (size, n_vars)."""
    return effect * np.stack([var["category"].to_numpy() == f"{name}_{i}" for i in range(size)])
