"""Cells for the benchmarks: counts whose density is that of real, ranked data."""

from __future__ import annotations

import numpy as np
import pandas as pd
import scanpy as sc
import scipy.sparse as sp
from anndata import AnnData

RANK = "highly_variable_rank"
PHENOTYPES = {"tissue": 45, "cell_type": 161, "age": 14, "sex": 2, "disease": 31}
"""Number of categories of each phenotype of the original's published models."""

DENSITIES = {512: 0.19, 2432: 0.09, 3000: 0.12}
"""Share of non-zeros that is expected among so many top-ranked genes."""

_LOG_MEAN, _LOG_MEAN_SD = -2.88, 1.65
_LOG_SIZE, _LOG_SIZE_SD = 1.4, 0.45
_LOG_DEPTH_SD = 0.35
_BLOCK = 1_000


def simulate_cells(n_cells: int = 20_000, n_genes: int = 3_000, seed: int = 0) -> AnnData:
    """Negative-binomial cells with ranked genes and random phenotypes.

    Gene means, gene sizes (inverse dispersions) and cell depths are log-normal. Well expressed genes then rank
    either first (more dispersed than others of their mean) or last, and rare ones in between, as in real data.

    Parameters
    ----------
    n_cells, n_genes
        How many.
    seed
        Seed of all draws.

    Returns
    -------
    Raw counts as CSR of float32, genes in the order of their ``seurat_v3`` rank, which stands in ``var``.
    """
    rng = np.random.default_rng(seed)
    mean = np.exp(rng.normal(_LOG_MEAN, _LOG_MEAN_SD, n_genes))
    size = np.exp(rng.normal(_LOG_SIZE, _LOG_SIZE_SD, n_genes))
    depth = np.exp(rng.normal(-(_LOG_DEPTH_SD**2) / 2, _LOG_DEPTH_SD, n_cells))
    blocks = [
        sp.csr_matrix(rng.poisson(rng.gamma(size, mean / size, (len(d), n_genes)) * d[:, None]).astype(np.float32))
        for d in np.split(depth, range(_BLOCK, n_cells, _BLOCK))
    ]
    obs = {
        name: pd.Categorical.from_codes(rng.integers(0, n, n_cells), [f"{name}_{i}" for i in range(n)])
        for name, n in PHENOTYPES.items()
    }
    adata = AnnData(sp.vstack(blocks, format="csr"), obs=pd.DataFrame(obs, index=_names("cell", n_cells)))
    table = sc.pp.highly_variable_genes(adata, flavor="seurat_v3", n_top_genes=n_genes, inplace=False)
    adata.var_names = _names("gene", n_genes)
    adata.var[RANK] = table[RANK].to_numpy()
    return adata[:, np.argsort(adata.var[RANK].to_numpy())].copy()


def check_density(adata: AnnData, tolerance: float = 0.01) -> dict[int, float]:
    """Share of non-zeros among the top-ranked genes, by number of genes.

    Raises
    ------
    ValueError
        If one is farther than `tolerance` from what the benchmark is meant for.
    """
    of_gene = np.diff(adata.X.tocsc().indptr) / adata.n_obs
    found = {n: float(of_gene[:n].mean()) for n in DENSITIES}
    wrong = [n for n, density in found.items() if abs(density - DENSITIES[n]) > tolerance]
    if wrong:
        raise ValueError(f"density by number of genes: found {found}, but {DENSITIES} are needed.")
    return found


def sparse_cells(n_cells: int = 20_000, n_genes: int = 2_000, density: float = 0.05, seed: int = 0) -> AnnData:
    """Counts from 1 to 5 at random places; for the data feed alone."""
    rng = np.random.default_rng(seed)
    blocks = []
    for start in range(0, n_cells, _BLOCK):
        shape = (min(_BLOCK, n_cells - start), n_genes)
        counts = sp.csr_matrix(rng.random(shape, dtype=np.float32) < density, dtype=np.float32)
        counts.data[:] = rng.integers(1, 6, counts.nnz)
        blocks.append(counts)
    adata = AnnData(sp.vstack(blocks, format="csr"))
    adata.obs_names, adata.var_names = _names("cell", n_cells), _names("gene", n_genes)
    for name, n in PHENOTYPES.items():
        labels = [f"{name}_{i}" for i in range(n)]
        adata.obs[name] = pd.Categorical.from_codes(rng.integers(0, n, n_cells), labels)
    return adata


def _names(prefix: str, n: int) -> list[str]:
    return [f"{prefix}_{i}" for i in range(n)]
