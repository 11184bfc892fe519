"""Simulated cells with genes that mark different cell types in different tissues, and tests that detect them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import scanpy as sc
import scipy.sparse as sp
from anndata import AnnData
from scipy.stats import false_discovery_control
from sklearn.metrics import roc_auc_score

import polygene_scverse as pgs
from polygene_scverse.abilities._gene_roles import GeneRoles
from polygene_scverse.abilities._gene_states import find_pairs
from polygene_scverse.abilities._polyfunctionality import permutation_p, polyfunctionality
from polygene_scverse.model import Polygene

MIN_CELLS, N_PERMUTATIONS = 10, 100


def simulate_tissues(
    seed: int = 0, n_donors: int = 8, n_tissues: int = 2, n_cells: int = 150, n_genes: int = 240, planted: float = 0.1
) -> AnnData:
    """Simulate counts of donors with several tissues and six cell types.

    Two thirds of the genes mark a cell type. Some of these are planted: they mark another cell type in other tissues,
    with the same mean. A fifth of the remaining genes differ in expression between tissues. Donors, tissues of a donor,
    and mixtures of cell types vary.

    Parameters
    ----------
    seed
        Seed of all random draws.
    n_donors, n_tissues
        Number of donors, and of tissues.
    n_cells
        Number of cells per donor and tissue.
    n_genes
        Number of genes.
    planted
        Fraction of the genes that are planted.
    """
    rng, n_types, n_markers = np.random.default_rng(seed), 6, n_genes * 2 // 3
    marked = np.where(np.arange(n_genes) < n_markers, np.arange(n_genes) % n_types, -1)
    moves = np.isin(np.arange(n_genes), rng.choice(n_markers, int(planted * n_genes), replace=False))
    shifts = np.isin(np.arange(n_genes), rng.choice(np.flatnonzero(~moves), n_genes // 5, replace=False))
    of = np.tile(marked, (n_tissues, 1))
    for tissue in range(1, n_tissues):
        of[tissue, moves] = (marked[moves] + rng.integers(1, n_types, moves.sum())) % n_types
    base = np.log(0.5) + rng.normal(-0.4, 0.8, n_genes)
    by_tissue = np.where(shifts, rng.normal(0, 1, (n_tissues, n_genes)), 0.0)
    by_donor, by_both = rng.normal(0, 0.2, (n_donors, n_genes)), rng.normal(0, 0.2, (n_donors, n_tissues, n_genes))
    mixes = rng.dirichlet(np.full(n_types, 20.0), n_tissues)
    blocks, obs = [], []
    for donor in range(n_donors):
        for tissue in range(n_tissues):
            kind = rng.choice(n_types, n_cells, p=rng.dirichlet(mixes[tissue] * 60))
            rate = base + by_tissue[tissue] + by_donor[donor] + by_both[donor, tissue]
            rate = rate + 1.5 * (kind[:, None] == of[tissue]) + rng.normal(0, 0.3, (n_cells, 1))
            blocks.append(rng.poisson(np.exp(rate) * rng.gamma(2, 0.5, rate.shape)))
            obs.append(pd.DataFrame({"cell_type": kind, "tissue": tissue, "donor": donor}))
    table = pd.concat(obs, ignore_index=True)
    table = pd.DataFrame({name: pd.Categorical(f"{name} " + table[name].astype(str)) for name in table})
    adata = AnnData(
        sp.csr_matrix(np.concatenate(blocks).astype(np.float32)), obs=table.set_index(table.index.astype(str))
    )
    adata.var_names = [f"gene{i}" for i in range(n_genes)]
    adata.var["planted"], adata.var["shifted"] = moves, shifts
    return adata


def rows_of_draw(seed: int, n_donors: int, planted: float, epochs: int | None) -> list[dict]:
    """Results of each test on one simulated data set: power at FDR 0.05, false positives, and AUROC."""
    adata = simulate_tissues(seed, n_donors, planted=planted)
    phenotypes = ["cell_type", "tissue"]
    model = pgs.tl.train(adata, phenotypes=phenotypes, group_key="donor", max_epochs=epochs, verbose=False)
    found = model.polyfunctionality(adata, groupby="tissue", group_key="donor", min_cells=MIN_CELLS)
    logged = adata[:, model.genes].copy()
    sc.pp.normalize_total(logged, target_sum=1e4)
    sc.pp.log1p(logged)
    sc.pp.pca(logged, n_comps=30)
    roles = roles_in(logged.obsm["X_pca"], logged)
    of_pcs = polyfunctionality(roles, min_cells=MIN_CELLS, n_permutations=N_PERMUTATIONS, seed=0)
    expression = roles.expression.reshape(2, n_donors, -1).swapaxes(0, 1)  # pairs are sorted by tissue and donor
    moves = (expression - expression.mean(1, keepdims=True))[..., None]
    p_expression = permutation_p(moves, np.ones(moves.shape[:3], dtype=bool), N_PERMUTATIONS, 0)
    truth = adata.var["planted"][model.genes].to_numpy()
    own_tokens = own_states(model, adata)
    results = {
        "tl.polyfunctionality": found.p_value,
        "the same test of the states of the gene's own tokens": own_tokens,
        "the same test of 30 principal components": of_pcs.p_value,
        "shift of log-expression, same null": p_expression,
    }
    rows = [{"test": name, **scores_of(p_value, truth)} for name, p_value in results.items()]
    if truth.any():
        size = np.abs(moves[:, 0, :, 0].mean(0))
        rows.append({"test": "size of the shift of log-expression", "AUROC": float(roc_auc_score(truth, size))})
    return [{"donors": n_donors, "planted": f"{planted:.0%}", **row} for row in rows]


def scores_of(p_value: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Scores of a test; genes that are not tested count as not found."""
    known = ~np.isnan(p_value)
    fdr = np.ones(len(truth))
    fdr[known] = false_discovery_control(p_value[known], method="bh")
    hits = fdr < 0.05
    scores = {"p < .05 of others": float((p_value[known & ~truth] < 0.05).mean())}
    if truth.any():
        scores["power at FDR .05"] = float(hits[truth].mean())
        scores["false among found"] = float((hits & ~truth).sum() / max(hits.sum(), 1))
        scores["AUROC"] = float(roc_auc_score(truth, -np.where(known, p_value, 1.0)))
    return scores


def roles_in(embedding: np.ndarray, logged: AnnData) -> GeneRoles:
    """Compute gene roles in any embedding."""
    contexts, groups, codes = find_pairs(logged, "tissue", "donor", np.arange(logged.n_obs))
    x = logged.X.toarray()
    seen = x > 0
    depth = np.log(seen.sum(1))
    roles, n_cells, covariates, expression = [], [], [], []
    for pair in range(len(contexts)):
        own = codes == pair
        n = seen[own].sum(0)
        of_gene = seen[own].T / np.maximum(n, 1)[:, None]
        roles.append(of_gene @ embedding[own] - embedding[own].mean(0))
        share = np.log(np.maximum(n, 0.5) / own.sum())
        means = x[own].sum(0) / np.maximum(n, 1)
        covariates.append(np.stack([share, means, of_gene @ depth[own] - depth[own].mean()], axis=1))
        n_cells.append(n)
        expression.append(x[own].mean(0))
    arrays = (np.stack(roles), np.stack(n_cells), np.stack(covariates), np.stack(expression))
    return GeneRoles(contexts, groups, list(logged.var_names), *arrays)


def own_states(model: Polygene, adata: AnnData) -> np.ndarray:
    """P-values of the same test for the mean states of the genes' own tokens after the last block."""
    states = model.get_gene_states(adata, groupby="tissue", group_key="donor")
    logged = adata[:, model.genes].copy()
    sc.pp.normalize_total(logged, target_sum=1e4)
    sc.pp.log1p(logged)
    roles = roles_in(np.zeros((adata.n_obs, 1)), logged)
    means = np.nan_to_num(states.means.astype(np.float64))
    arrays = (means, states.n_cells, roles.covariates, roles.expression)
    found = GeneRoles(states.contexts, states.groups or [], states.genes, *arrays)
    return polyfunctionality(found, min_cells=MIN_CELLS, n_permutations=N_PERMUTATIONS, seed=0).p_value
