"""Notebook in text; `nox -s tutorials` executes it."""

# %% [markdown]
# # Your own data
#
# *A colleague sends a model of blood cells. Your cells were measured elsewhere: genes have other names, half of them
# are missing, and you have annotated a kind of cell that the model has never heard of. Can you use it?*
#
# To try this, the 700 blood cells that come with scanpy are cut in two. The colleague's have no dendritic cells,
# yours do.

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
# Your file has numbers in the place of gene names, and every second gene.

# %%
yours.var["symbol_of_gene"] = yours.var_names
yours.var_names = [f"row{i}" for i in range(yours.n_vars)]
panel = yours[:, ::2].copy()
try:
    pgs.tl.predict_phenotype(panel, model=model)
except ValueError as error:
    print(error)

# %% [markdown]
# No name is known. Say which column of `var` has the names, and ask what fits:

# %%
for name, answer in pgs.tl.check(panel, model=model, gene_symbols="symbol_of_gene").items():
    print(f"{name}: {answer}")

# %% [markdown]
# Half of the genes are *unmeasured*, which is not the same as not expressed. The last line is the accuracy to expect
# with the genes that are there. Of the kinds that the model knows, it finds:

# %%
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # says again what `check` said
    pgs.tl.predict_phenotype(panel, model=model, gene_symbols="symbol_of_gene")


def accuracy(cells, rows):
    """Share of some cells whose prediction is what is recorded."""
    right = cells.obs["polygene_cell_type"].astype(str) == cells.obs["cell_type"]
    return f"{right.to_numpy()[rows].mean():.2f} of {rows.sum()} cells"


dendritic = (panel.obs["cell_type"] == "Dendritic").to_numpy()
print(accuracy(panel, ~dendritic))

# %% [markdown]
# ## A kind that the model does not know
#
# A model answers with what it knows. Each dendritic cell gets a name, and a wrong one:

# %%
panel[dendritic].obs["polygene_cell_type"].value_counts().head(3)

# %% [markdown]
# So let it learn them. You have annotated half of your dendritic cells; `pgs.tl.train(..., model=...)` trains further
# on these alone, and adds the label, which the model does not have.

# %%
teach = np.flatnonzero(dendritic)[::2]
larger = pgs.tl.train(yours[teach].copy(), model=model, gene_symbols="symbol_of_gene", max_epochs=6)

# %% [markdown]
# None of the colleague's cells was needed. A model keeps how often each gene has which count in each kind of cell,
# and what genes do together: cells like the old ones are drawn from that and trained on again, so that they are not
# forgotten. On your cells that were not used, before and after:

# %%
others = np.setdiff1d(np.arange(yours.n_obs), teach)
for name, trained in (("before", model), ("after", larger)):
    rest = yours[others].copy()
    pgs.tl.predict_phenotype(rest, model=trained, gene_symbols="symbol_of_gene")
    new = (rest.obs["cell_type"] == "Dendritic").to_numpy()
    print(f"{name}: old kinds {accuracy(rest, ~new)}, dendritic cells {accuracy(rest, new)}")

# %% [markdown]
# Where old cells are at hand, `anndata.concat([old, new])` is better still: drawn cells know nothing of donors. To
# share the result, `larger.push_to_hub("me/blood")` uploads it with a card; cells are not uploaded.
#
# ## What not to conclude
#
# * All cells here come from one donor and one experiment. Cells of another laboratory are harder than these
#   figures say; `pgs.tl.evaluate(adata, group_key="donor")` tells how much.
# * The accuracy to expect of a panel holds for cells like those held out in training, not for cells of another tissue.
# * That a label was added and is predicted does not show that it is a kind of its own. The model repeats what you
#   annotated, mistakes included.
# * A kind that nobody annotated still gets one of the known names. `pgs.tl.novelty` finds some of these cells, but
#   not those that look like a known kind.
# * The model is not anonymous: cells like those of its training can be drawn from it.
