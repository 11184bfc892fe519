"""Simulated cells for the benchmarks: counts with the density of real data with ranked genes."""

from __future__ import annotations

import numpy as np
import pandas as pd
import scanpy as sc
import scipy.sparse as sp
from anndata import AnnData

RANK = "highly_variable_rank"
PHENOTYPES = {"tissue": 45, "cell_type": 161, "age": 14, "sex": 2, "disease": 31}
"""Number of categories of each phenotype in the published models of the original."""

DENSITIES = {512: 0.19, 2432: 0.09, 3000: 0.12}
"""Expected share of non-zero values, by number of top-ranked genes."""

_LOG_MEAN, _LOG_MEAN_SD = -2.88, 1.65
_LOG_SIZE, _LOG_SIZE_SD = 1.4, 0.45
_LOG_DEPTH_SD = 0.35
_BLOCK = 1_000


def simulate_cells(n_cells: int = 20_000, n_genes: int = 3_000, seed: int = 0) -> AnnData:
    """Simulate negative-binomial cells with ranked genes and random phenotypes.

    Gene means, gene sizes (inverse dispersions) and cell depths are log-normal. As in real data, highly expressed genes
    then rank either first (overdispersed compared with genes of similar mean) or last, and rare genes in between.

    Parameters
    ----------
    n_cells, n_genes
        Number of cells, and of genes.
    seed
        Seed of all random draws.

    Returns
    -------
    Raw counts as CSR of float32, with genes in the order of their ``seurat_v3`` rank, which is in ``var``.
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
        If a share differs by more than `tolerance` from the expected one.
    """
    of_gene = np.diff(adata.X.tocsc().indptr) / adata.n_obs
    found = {n: float(of_gene[:n].mean()) for n in DENSITIES}
    wrong = [n for n, density in found.items() if abs(density - DENSITIES[n]) > tolerance]
    if wrong:
        raise ValueError(f"density by number of genes: found {found}, but {DENSITIES} are needed.")
    return found


def sparse_cells(n_cells: int = 20_000, n_genes: int = 2_000, density: float = 0.05, seed: int = 0) -> AnnData:
    """Simulate counts from 1 to 5 at random positions; for the data feed only."""
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
