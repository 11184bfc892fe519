"""Notebook in text; `nox -s tutorials` executes it."""

# %% [markdown]
# # Cells on demand, and what-if questions
#
# Two questions about one blood sample. *I have few cells of some types: can a model make more of them, and are they any
# good?* And: *how would these cells look if they were about to divide?* Both answers come from the same model, and both
# stand beside the simplest thing that one could have done instead.

# %%
import numpy as np
import pandas as pd

import polygene_scverse as pgs

adata = pgs.datasets.pbmc68k()
held_out = np.random.default_rng(0).random(adata.n_obs) < 0.4
train, test = adata[~held_out].copy(), adata[held_out].copy()
model = pgs.tl.train(train, phenotypes=["bulk_labels", "phase"], verbose=False)
train.obs["bulk_labels"].value_counts()

# %% [markdown]
# ## Cells on demand
#
# `given` says which cells are wanted; what it leaves out (here the phase of the cell cycle) is drawn as often as
# training cells of that type have it. A table asks for one cell a row: here for as many of each type as were held out.

# %%
cells = pgs.tl.generate(test.obs[["bulk_labels"]], model=model)
cells

# %% [markdown]
# `X` holds log1p of counts per 10,000, `layers["counts"]` the counts. A combination that no training cell had is
# refused, unless `allow_unseen=True`, and then marked:

# %%
try:
    pgs.tl.generate({"bulk_labels": "CD34+", "phase": "G2M"}, n_obs=10, model=model)
except ValueError as error:
    print(error)

# %% [markdown]
# ## Are they any good?
#
# Generated cells are compared with the held-out cells, which nothing was fitted to. The same numbers are given for
# three things that need no model: real training cells, a Gaussian copula of each type, and each gene drawn by itself.
# `best` is what a perfect generator would have.

# %%
table = pgs.tl.check_generated(cells, test, training=train, groupby="bulk_labels")
table.query("level == 'all'").drop(columns=["level", "n_cells"]).round(3)

# %%
pgs.pl.check_generated(cells)

# %% [markdown]
# Read it like this. Drawing each gene by itself keeps means and zeros, and loses what genes do together
# (`correlation`). `rf_auc` says how well a random forest tells the cells from held-out ones, 0.5 being chance.
# `as_asked` is the share of cells in which a classifier of real cells finds the type that was asked for. `nn_ratio`
# and `attack_auroc` ask whether cells are copies: real training cells have a ratio of 0, which is what copies look
# like. With so few cells all of these numbers are rough: marks of single types lie far apart.
#
# ## What if these cells were about to divide?
#
# Every held-out cell in phase G1 is asked for twice: as it is recorded, and with the phase set to G2M. The difference
# is what the model expects.

# %%
resting = test[test.obs["phase"] == "G1"].copy()
result = pgs.tl.counterfactual(resting, {"phase": "G2M"}, model=model)
shift = pgs.get.counterfactual(result)
shift.head(10)

# %% [markdown]
# Is that so in cells that really are in G2M? The held-out cells say how genes differ between both phases. Cells that
# divide are of other types than those that do not, so that means are compared within types. The simplest other answer
# is the same difference in the training cells.


# %%
def difference(part, within):
    """Mean of G2M minus mean of G1, gene by gene, over the types that have three cells of both."""
    keys = [part.obs[within].astype(str), part.obs["phase"].astype(str)]
    means, n = part.to_df().groupby(keys).mean(), part.obs.groupby(keys).size().unstack(fill_value=0)
    types = n.index[(n[["G1", "G2M"]] >= 3).all(axis=1)]
    shifts = [means.loc[(name, "G2M")] - means.loc[(name, "G1")] for name in types]
    return np.average(shifts, axis=0, weights=n.loc[types, ["G1", "G2M"]].min(axis=1))


answers = pd.DataFrame(
    {
        "model": shift.set_index("gene")["shift"].reindex(test.var_names),
        "difference in training cells": difference(train, "bulk_labels"),
        "difference in held-out cells": difference(test, "bulk_labels"),
    },
    index=test.var_names,
).dropna()
answers.corr()["difference in held-out cells"].round(2)

# %%
ax = answers.plot.scatter("difference in held-out cells", "model", s=8)
for gene in answers["difference in held-out cells"].abs().nlargest(8).index:
    ax.annotate(gene, answers.loc[gene, ["difference in held-out cells", "model"]], fontsize=8)

# %% [markdown]
# ## What not to conclude
#
# * Generated cells are no new evidence. They repeat what the model learned of the training cells: a test of hypotheses
#   on them counts the same cells twice, and more of them make nothing more certain.
# * They are cells of these donors. No donor, condition or type that nobody measured can be had in this way.
# * They are not anonymous. That an attack fails here proves no privacy.
# * A counterfactual is an association, not the outcome of an experiment. Cells in G2M differ from cells in G1 also
#   by type, and by whatever else went along with the phase in these cells; nobody made a cell divide.
# * One sample says nothing of other people. With several donors, hold out whole ones, and pass `group_key=` to
#   `pgs.get.counterfactual`.
