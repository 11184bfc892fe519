"""Notebook in text; `nox -s tutorials` executes it."""

# %% [markdown]
# # Genes in context
#
# VWF marks endothelial cells. Does it say the same in every tissue? And a gene that goes up in a disease: does it do so
# in all cell types, or in one? This notebook asks a trained model which genes carry a prediction, whether a gene's role
# changes between tissues, and which genes carry a disease in several cell types.
#
# It takes about two minutes on a laptop.

# %%
import numpy as np
import scanpy as sc

import polygene_scverse as pgs

blood = pgs.datasets.pbmc68k()
pgs.tl.train(blood, phenotypes="bulk_labels", verbose=False)

# %% [markdown]
# ## Which genes carry a cell type
#
# A score above 0 says that expression of the gene speaks for the category. The result has the form of scanpy's
# `rank_genes_groups`, so scanpy's figures draw it.

# %%
pgs.tl.rank_genes(blood, "bulk_labels", n_cells=3)
sc.pl.rank_genes_groups_dotplot(blood, key="polygene_rank_genes", n_genes=3, dendrogram=False)

# %% [markdown]
# ## The same gene in two contexts
#
# Each gene has a state in each cell. Averaged over the cells of a type that express it, these states are AnnData with a
# row for each gene and cell type. What they mostly show is the cell type: every gene sees the same cells.

# %%
states = pgs.tl.gene_embeddings(blood, groupby="bulk_labels", min_cells=20)
sc.pp.neighbors(states, use_rep="X")
sc.tl.umap(states)
sc.pl.umap(states, color="context")

# %% [markdown]
# ## Genes whose role changes between tissues
#
# That needs donors: a difference between two tissues of one person may be that person's. The cells here are simulated,
# eight donors with two tissues each, so that we know the truth. In the second tissue, six genes that mark
# `cell_type_0` have changed places with six that mark `cell_type_1`.

# %%
sizes = {"cell_type": 4, "tissue": 2, "disease": 2}
cells = pgs.datasets.simulate(2400, 200, phenotypes=sizes, n_groups=8, seed=0)
cells.X = cells.X.toarray()
first, second = (np.flatnonzero(cells.var["category"] == f"cell_type_{i}")[:6] for i in (0, 1))
there = np.ix_(cells.obs["tissue"] == "tissue_1", np.concatenate([first, second]))
cells.X[there] = cells.X[np.ix_(cells.obs["tissue"] == "tissue_1", np.concatenate([second, first]))]
changed = list(cells.var_names[np.concatenate([first, second])])

# %% [markdown]
# Of the genes that mark the disease, the first three shall do so in `cell_type_0` alone.

# %%
alone = np.flatnonzero(cells.var["category"] == "disease_1")[:3]
elsewhere = np.flatnonzero(cells.obs["cell_type"] != "cell_type_0")
cells.X[np.ix_(elsewhere, alone)] = cells.X[np.ix_(np.random.default_rng(0).permutation(elsewhere), alone)]

# %%
pgs.tl.train(cells, phenotypes=list(sizes), group_key="donor", max_epochs=4, verbose=False)
pgs.tl.polyfunctionality(cells, "tissue", group_key="donor")
pgs.pl.polyfunctionality(cells)

# %% [markdown]
# Genes far up have another role in the other tissue, whether or not their expression differs there (to the right).
# How many of those found are among the twelve, and how many of the twelve are found:

# %%
found = pgs.get.polyfunctionality(cells).query("fdr < 0.05")
found["gene"].isin(changed).mean(), np.isin(changed, found["gene"]).mean()

# %% [markdown]
# ## Genes that carry a disease in several cell types, or in one
#
# A dot marks cell types in which a gene carries the disease: the model uses it, and donors agree.

# %%
pgs.tl.biomarkers(cells, "disease", contexts="cell_type", group_key="donor", n_cells=3)
pgs.pl.biomarkers(cells, "disease_1", n_genes=3)

# %%
table = pgs.get.biomarkers(cells, "disease_1").set_index("gene")
table.loc[cells.var_names[alone], ["n_contexts", "contexts", "score"]]

# %% [markdown]
# ## What not to conclude
#
# - A high score says what this model uses. Of several genes that say the same, it may use one. To find markers as such,
#   Wilcoxon tests agree better between donors.
# - A gene whose role changes goes along with other cells than elsewhere. It need not *do* something else.
# - Cells that are called by another name in another tissue make roles change as well: labels count.
# - A gene that carries the disease in one cell type only may do so in others with too few cells or donors to show it.
# - Without donors there is no null. Cells of one donor are no replicates.
# - None of this says what happens if a gene is changed.
