"""Notebook in text; `nox -s tutorials` executes it."""

# %% [markdown]
# # Your own data
#
# *A colleague sends you a model of blood cells. Your cells were measured elsewhere: genes have other names, half of
# them are missing, and you have annotated a cell type that the model does not know. Can you use it?*
#
# To simulate this, the 700 blood cells that are installed with scanpy are divided into two data sets. The colleague's
# data have no dendritic cells, yours do.

# %%
import warnings

import numpy as np

import polygene_scverse as pgs

blood = pgs.datasets.pbmc68k()
blood.obs["cell_type"] = blood.obs["bulk_labels"].astype(str)
is_new = (blood.obs["cell_type"] == "Dendritic").to_numpy()
first = (np.random.default_rng(0).random(blood.n_obs) < 0.6) & ~is_new
theirs, yours = blood[first].copy(), blood[~first].copy()

model = pgs.tl.train(theirs, phenotypes="cell_type", max_epochs=6, verbose=False)

# %% [markdown]
# ## Does the file fit the model?
#
# Your file has numbers instead of gene names, and only every second gene.

# %%
yours.var["symbol_of_gene"] = yours.var_names
yours.var_names = [f"row{i}" for i in range(yours.n_vars)]
panel = yours[:, ::2].copy()
try:
    pgs.tl.predict_phenotype(panel, model=model)
except ValueError as error:
    print(error)

# %% [markdown]
# None of the names is known. Pass the column of `var` that has the gene symbols, and check again:

# %%
for name, answer in pgs.tl.check(panel, model=model, gene_symbols="symbol_of_gene").items():
    print(f"{name}: {answer}")

# %% [markdown]
# Half of the genes are *unmeasured*, which is not the same as not expressed. The last line is the expected accuracy
# with the measured genes. The accuracy on the cell types that the model knows is:

# %%
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # repeats what `check` printed
    pgs.tl.predict_phenotype(panel, model=model, gene_symbols="symbol_of_gene")


def accuracy(cells, rows):
    """Share of some cells whose prediction is what is recorded."""
    right = cells.obs["polygene_cell_type"].astype(str) == cells.obs["cell_type"]
    return f"{right.to_numpy()[rows].mean():.2f} of {rows.sum()} cells"


dendritic = (panel.obs["cell_type"] == "Dendritic").to_numpy()
print(accuracy(panel, ~dendritic))

# %% [markdown]
# ## A cell type that the model does not know
#
# A model can only predict categories that it knows. Each dendritic cell gets a wrong label:

# %%
panel[dendritic].obs["polygene_cell_type"].value_counts().head(3)

# %% [markdown]
# You have annotated half of your dendritic cells. `pgs.tl.train(..., model=...)` trains the model further on these
# cells alone, and adds the new label.

# %%
teach = np.flatnonzero(dendritic)[::2]
larger = pgs.tl.train(
    yours[teach].copy(), model=model, gene_symbols="symbol_of_gene", max_epochs=6, enable_progress_bar=False
)

# %% [markdown]
# The cells of the colleague are not needed. The model stores a statistical model of the counts of its training cells.
# Cells are generated from it and used in training as well, to limit the forgetting of old types. Accuracy on your cells
# that were not used, before and after:

# %%
others = np.setdiff1d(np.arange(yours.n_obs), teach)
for name, trained in (("before", model), ("after", larger)):
    rest = yours[others].copy()
    pgs.tl.predict_phenotype(rest, model=trained, gene_symbols="symbol_of_gene")
    new = (rest.obs["cell_type"] == "Dendritic").to_numpy()
    print(f"{name}: old kinds {accuracy(rest, ~new)}, dendritic cells {accuracy(rest, new)}")

# %% [markdown]
# If you have the old cells, train on `anndata.concat([old, new])`: generated cells carry no information about donors.
# To share the result, `larger.push_to_hub("me/blood")` uploads it with a model card; cells are not uploaded.
#
# ## What not to conclude
#
# * All cells here are from one donor and one experiment. Cells of another laboratory are more difficult than these
#   results suggest; measure it with `pgs.tl.evaluate(adata, group_key="donor")`.
# * The expected accuracy of a panel holds for cells like those held out in training, not for cells of another tissue.
# * That a new label is predicted does not show that it is a distinct cell type. The model reproduces your annotation,
#   including mistakes.
# * Cells of a type that nobody annotated still get one of the known labels. `pgs.tl.novelty` detects some of these
#   cells, but not those that are similar to a known type.
# * The model is not anonymous: cells similar to its training cells can be generated from it.
#
# Next: [Bring your own data](../docs/your_data.md) describes all checks and conversions.
