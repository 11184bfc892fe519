"""Notebook in text; `nox -s tutorials` executes it."""

# %% [markdown]
# # Train and predict
#
# You have cells with known cell types, and want to know the cell types of other cells. Polygene reads a cell as a
# sentence: the first words say what the cell *is* (its **phenotypes**: cell type, sex, disease, … any `obs` column),
# the others how strongly each gene is expressed. It learns by guessing words that were hidden from it.
#
# This takes about a minute on a laptop.

# %%
import polygene_scverse as pgs

adata = pgs.datasets.pbmc68k()
adata

# %% [markdown]
# `X` may hold raw counts or log-normalised values; which, is detected. Phenotype columns with a usual name are found
# by themselves; name others with `phenotypes=[...]`. If there are several donors, say so with `group_key="donor"`:
# whole donors are then held out. Here there is one donor, so single cells are.

# %%
model = pgs.tl.train(adata, validation_size=0.2, enable_progress_bar=False)

# %% [markdown]
# The validation cells were not used for training. How well are they predicted?

# %%
pgs.pl.history(adata)

# %% [markdown]
# Predictions go into `obs`, with their probability. The recorded labels of a cell are not shown to the model.

# %%
pgs.tl.predict_phenotype(adata)
adata.obs[["bulk_labels", "polygene_bulk_labels", "polygene_bulk_labels_confidence"]].head()

# %%
held_out = adata[model.validation_indices]
pgs.pl.confusion(held_out, "bulk_labels")

# %% [markdown]
# Some of these labels are hard to tell apart by expression, such as memory and regulatory T cells.
#
# The embedding goes into `obsm["X_polygene"]`, its UMAP beside it.

# %%
pgs.tl.embed(adata)
pgs.pl.umap(adata, color=["bulk_labels", "polygene_bulk_labels", "polygene_bulk_labels_confidence"], ncols=1)

# %% [markdown]
# ## Other cells
#
# Genes of other data are matched by name. Genes that they lack are left out, which is not the same as "not expressed".

# %%
query = held_out.copy()[:, ::2].copy()
pgs.tl.predict_phenotype(query, model=model)
(query.obs["polygene_bulk_labels"] == query.obs["bulk_labels"]).mean()

# %% [markdown]
# ## What is known may help
#
# `given=` shows the model the phenotypes that are already known, cell by cell.

# %%
pgs.tl.predict_phenotype(query, phenotypes="phase", given="bulk_labels", model=model)
query.obs["polygene_phase"].value_counts()

# %% [markdown]
# ## Keep the model

# %%
import tempfile

folder = f"{tempfile.mkdtemp()}/model"
model.save(folder)
again = pgs.model.Polygene.load(folder)
again.predict_phenotype(query)["bulk_labels"].iloc[:3, :3]
