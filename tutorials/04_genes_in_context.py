"""Notebook in text; `nox -s tutorials` executes it."""

# %% [markdown]
# # Genes in context
#
# VWF is a marker of endothelial cells. Does it have the same role in every tissue? And if a gene is up-regulated in a
# disease, is this so in all cell types, or in one? This notebook asks a trained model which genes drive a prediction,
# whether the role of a gene differs between tissues, and which genes are associated with a disease in several cell
# types.
#
# It takes about two minutes on a laptop.

# %%
import numpy as np
import scanpy as sc

import polygene_scverse as pgs

blood = pgs.datasets.pbmc68k()
pgs.tl.train(blood, phenotypes="bulk_labels", verbose=False)

# %% [markdown]
# ## Genes that drive the prediction of a cell type
#
# A positive score means that expression of the gene is evidence for the category. The result has the format of scanpy's
# `rank_genes_groups`, so it can be plotted with scanpy.

# %%
pgs.tl.rank_genes(blood, "bulk_labels", n_cells=3)
sc.pl.rank_genes_groups_dotplot(blood, key="polygene_rank_genes", n_genes=3, dendrogram=False)

# %% [markdown]
# ## Genes behind the prediction of one cell
#
# Which genes decide how a dendritic cell is classified? `tl.explain_prediction` compares the predicted category of a
# cell (`category`) with its closest competitor (`against`), and returns AnnData with the contribution of each gene to
# the log-odds of the two. Dendritic cells are most easily mistaken for monocytes.

# %%
dendritic = blood.obs_names[blood.obs["bulk_labels"] == "Dendritic"][:3]
why = pgs.tl.explain_prediction(blood, dendritic)
why.obs

# %%
cell = dendritic[0]
why.to_df().loc[cell].nlargest(8).to_frame("contribution to the log-odds")

# %% [markdown]
# ## The same gene in two contexts
#
# Each gene has a hidden state in each cell. `tl.gene_embeddings` averages these states over the cells of a type that
# express the gene, and returns AnnData with a row for each gene and cell type. The states mostly reflect the cell type,
# because all genes are seen in the same cells.

# %%
states = pgs.tl.gene_embeddings(blood, groupby="bulk_labels", min_cells=20)
sc.pp.neighbors(states, use_rep="X")
sc.tl.umap(states)
sc.pl.umap(states, color="context")

# %% [markdown]
# ## Genes whose role differs between tissues
#
# This question needs several donors, because a difference between two tissues of one person may be specific to this
# person. The cells here are simulated, with eight donors and two tissues each, so that the truth is known. In the
# second tissue, six genes that mark `cell_type_0` are swapped with six that mark `cell_type_1`.

# %%
sizes = {"cell_type": 4, "tissue": 2, "disease": 2}
cells = pgs.datasets.simulate(2400, 200, phenotypes=sizes, n_groups=8, seed=0)
cells.X = cells.X.toarray()
first, second = (np.flatnonzero(cells.var["category"] == f"cell_type_{i}")[:6] for i in (0, 1))
there = np.ix_(cells.obs["tissue"] == "tissue_1", np.concatenate([first, second]))
cells.X[there] = cells.X[np.ix_(cells.obs["tissue"] == "tissue_1", np.concatenate([second, first]))]
changed = list(cells.var_names[np.concatenate([first, second])])

# %% [markdown]
# Of the genes that mark the disease, the first three do so only in `cell_type_0`.

# %%
alone = np.flatnonzero(cells.var["category"] == "disease_1")[:3]
elsewhere = np.flatnonzero(cells.obs["cell_type"] != "cell_type_0")
cells.X[np.ix_(elsewhere, alone)] = cells.X[np.ix_(np.random.default_rng(0).permutation(elsewhere), alone)]

# %%
pgs.tl.train(cells, phenotypes=list(sizes), group_key="donor", max_epochs=4, verbose=False)
pgs.tl.polyfunctionality(cells, "tissue", group_key="donor")
pgs.pl.polyfunctionality(cells)

# %% [markdown]
# Genes at the top have a different role in the other tissue, whether or not their expression differs (x axis). The next
# cell shows the fraction of discoveries that are among the twelve genes, and the fraction of the twelve genes found.

# %%
found = pgs.get.polyfunctionality(cells).query("fdr < 0.05")
right, known = found["gene"].isin(changed).mean(), np.isin(changed, found["gene"]).mean()
print(f"{right:.2f} of the discoveries are right; {known:.2f} of the changed genes are found")

# %% [markdown]
# ## Genes associated with a disease in several cell types, or in one
#
# Dots mark cell types in which a gene supports the disease: the model uses it, and its expression differs consistently
# between donors.

# %%
pgs.tl.biomarkers(cells, "disease", contexts="cell_type", group_key="donor", n_cells=3)
pgs.pl.biomarkers(cells, "disease_1", n_genes=3)

# %%
table = pgs.get.biomarkers(cells, "disease_1").set_index("gene")
table.loc[cells.var_names[alone], ["n_contexts", "contexts", "score"]]

# %% [markdown]
# ## What not to conclude
#
# - A high score means that this model uses the gene. If several genes carry the same information, it may use only one
#   of them. To find markers, use Wilcoxon tests, which are more consistent between donors.
# - The contributions to the prediction of one cell describe this model and this cell. They are not causes.
# - A gene whose role differs is expressed in other kinds of cells. This does not mean that it has another function.
# - If cells have different labels in another tissue, roles differ as well. The result depends on the labels.
# - A gene that supports the disease in one cell type only may also do so in others with too few cells or donors.
# - Without donors there is no test. Cells of one donor are not replicates.
# - None of this predicts what happens if a gene is changed.
#
# Next: [Genes in context](../docs/genes_in_context.md) describes the methods and how they were evaluated.
