"""Notebook in text; `nox -s tutorials` executes it."""

# %% [markdown]
# # Train and predict
#
# **Which cell types are in my data, given cells whose types are known?**
#
# Polygene reads a cell as a sequence of tokens. The first tokens are the **phenotypes** of the cell (cell type, sex,
# disease or any other column of `obs`), and the others are the expression bins of its genes. During training, some
# tokens are hidden and predicted from the others.
#
# This notebook takes about two minutes on a laptop. The data are 700 blood cells that are installed with scanpy.

# %%
import numpy as np

import polygene_scverse as pgs

adata = pgs.datasets.pbmc68k()
adata

# %% [markdown]
# `X` may contain raw counts or log-normalised values; the scale is detected. Phenotype columns with a common name are
# found automatically, and others are chosen with `phenotypes=[...]`. These cells come from one donor, so single cells
# are held out; with several donors, pass `group_key="donor"`.

# %%
model = pgs.tl.train(adata, validation_size=0.2, enable_progress_bar=False)

# %% [markdown]
# ## How well are new cells predicted?
#
# The network was not trained on the held-out cells. Lines are scores of the transformer after each epoch, and points
# are scores of the finished model. It includes the **linear path**, a linear classifier that is fitted after training.

# %%
pgs.pl.history(adata)

# %% [markdown]
# Predictions are written to `obs` with their probability. The recorded labels are not shown to the model.

# %%
pgs.tl.predict_phenotype(adata)
adata.obs[["bulk_labels", "polygene_bulk_labels", "polygene_bulk_labels_confidence"]].head()

# %%
held_out = adata[model.validation_indices].copy()
pgs.pl.confusion(held_out, "bulk_labels")

# %% [markdown]
# Some of these labels, such as memory and regulatory T cells, are difficult to distinguish by expression.
#
# ## The embedding
#
# The embedding is written to `obsm["X_polygene"]`, and its UMAP to `obsm["X_polygene_umap"]`. Training cells are closer
# to others with the same label than new cells are, so the held-out cells are shown separately.

# %%
pgs.tl.embed(adata)
adata.obs["split"] = "training"
adata.obs.iloc[model.validation_indices, adata.obs.columns.get_loc("split")] = "held out"
pgs.pl.umap(adata, color=["split", "bulk_labels"], ncols=1)

# %%
pgs.pl.umap(adata[adata.obs["split"] == "held out"], color=["bulk_labels", "polygene_bulk_labels"], ncols=1)

# %% [markdown]
# ## Cells of another data set
#
# Genes are matched by name. Here the new cells have only half of the genes; the others are *unmeasured*, which is not
# the same as not expressed. A warning reports the expected accuracy.

# %%
query = held_out[:, ::2].copy()
pgs.tl.predict_phenotype(query, model=model)
print("right:", np.mean(query.obs["polygene_bulk_labels"] == query.obs["bulk_labels"]).round(2))

# %% [markdown]
# ## Known phenotypes as evidence
#
# `given=` shows the model a phenotype that is already known for each cell, to predict another one.

# %%
pgs.tl.predict_phenotype(query, phenotypes="phase", given="bulk_labels", model=model)
query.obs["polygene_phase"].value_counts()

# %% [markdown]
# ## Save the model

# %%
import tempfile

folder = f"{tempfile.mkdtemp()}/model"
model.save(folder)
loaded = pgs.model.Polygene.load(folder)
loaded.predict_phenotype(query)["bulk_labels"].iloc[:3, :3]

# %% [markdown]
# ## What not to conclude
#
# * **That new donors are predicted this well.** All cells here are from one donor. Hold out whole donors with
#   `group_key="donor"`.
# * **That a cell has a type of this list.** The model can only choose among the categories it was trained on. The next
#   notebook shows how to find cells that are unlike all of them.
# * **That Polygene is needed.** On these cells logistic regression is as good; compare with `pgs.tl.evaluate`.
#
# Next: [which predictions to rely on](02_answers_to_trust.ipynb), or [your own data](05_your_own_data.ipynb).
