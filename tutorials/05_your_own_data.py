"""Notebook in text; `nox -s tutorials` executes it."""

# %% [markdown]
# # Your own data
#
# *A colleague sends a model of blood cells. Your cells were measured elsewhere: genes have Ensembl ids, some genes are
# missing, and you have annotated a kind of cell that the model has never heard of. Can you use it?*
#
# To have something to try this on, the 700 blood cells that come with scanpy are cut in two: the colleague's have no
# dendritic cells, yours do.

# %%
import warnings

import numpy as np

import polygene_scverse as pgs

blood = pgs.datasets.pbmc68k()
blood.obs["cell_type"] = blood.obs["bulk_labels"].astype(str)
first = np.random.default_rng(0).random(blood.n_obs) < 0.6
is_new = (blood.obs["cell_type"] == "Dendritic").to_numpy()
theirs, yours = blood[first & ~is_new].copy(), blood[~first | is_new].copy()

model = pgs.tl.train(theirs, phenotypes="cell_type", max_epochs=6, verbose=False)
model.save("blood_model", overwrite=True)

# %% [markdown]
# ## Does the file fit the model?
#
# Your file has other names for its genes, and only half of them.

# %%
ids = model.gene_names(yours).names
yours.var["my_names"] = yours.var_names
yours.var_names = [f"row{i}" for i in range(yours.n_vars)]
panel = yours[:, ::2].copy()
try:
    pgs.tl.predict_phenotype(panel, model="blood_model")
except ValueError as error:
    print(error)

# %% [markdown]
# The error says it: no name is known. Say which column of `var` has the names, and ask what fits:

# %%
for name, answer in pgs.tl.check(panel, model="blood_model", gene_symbols="my_names").items():
    print(f"{name}: {answer}")

# %% [markdown]
# Half of the genes are *unmeasured*, which is not the same as not expressed. The last line is the accuracy to expect
# with the genes that are there, of cells like those the model was trained on.

# %%
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it says again what `check` said
    pgs.tl.predict_phenotype(panel, model="blood_model", gene_symbols="my_names")
known = (panel.obs["cell_type"] != "Dendritic").to_numpy()
right = (panel.obs["polygene_cell_type"].astype(str) == panel.obs["cell_type"]).to_numpy()
print(f"accuracy {right[known].mean():.2f} of the kinds that it knows")

# %% [markdown]
# ## A kind that the model does not know
#
# A model answers with what it knows. Each dendritic cell gets a name, and a wrong one:

# %%
panel[~known].obs["polygene_cell_type"].value_counts()

# %% [markdown]
# So let the model learn it. `pgs.tl.train(..., model=...)` trains further on your cells; labels that the model does not
# have are added. You have annotated a few of your cells, half of the dendritic ones:

# %%
rows = np.flatnonzero(~known)
teach = yours[rows[::2]].copy()
larger = pgs.tl.train(teach, model="blood_model", gene_symbols="my_names", max_epochs=6)

# %% [markdown]
# None of the colleague's cells was needed. What the model keeps of them, frequencies of counts in each kind of cell, is
# enough to draw cells like them, which are trained on again so that the old kinds are not forgotten.
#
# These cells hold logarithms without their counts: nothing is kept to draw from, and a warning says so. In that case,
# or wherever old cells are at hand, train on both:

# %%
import anndata as ad

theirs.var_names = theirs.var_names.astype(str)
teach.var_names = teach.var["my_names"].astype(str)
both = ad.concat([theirs, teach])
larger = pgs.tl.train(both, model="blood_model", max_epochs=6, verbose=False)
rest = yours[np.setdiff1d(np.arange(yours.n_obs), rows[::2])].copy()
pgs.tl.predict_phenotype(rest, model=larger, gene_symbols="my_names")
right = (rest.obs["polygene_cell_type"].astype(str) == rest.obs["cell_type"]).to_numpy()
new = (rest.obs["cell_type"] == "Dendritic").to_numpy()
print(f"accuracy {right[~new].mean():.2f} of the old kinds, {right[new].mean():.2f} of the new one")
