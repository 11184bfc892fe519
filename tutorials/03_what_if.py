"""Notebook in text; `nox -s tutorials` executes it."""

# %% [markdown]
# # Generated cells and what-if questions
#
# Two questions about one blood sample. *I have few cells of some types: can a model generate more of them, and are they
# realistic?* And: *how would these cells look if they were about to divide?* Both are answered by the same model, and
# both answers are compared with simple baselines.

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
# ## Generate cells
#
# `given` contains the phenotypes of the cells. Other phenotypes (here the phase of the cell cycle) are sampled with
# their frequencies in the training cells of that type. With a table, one cell is generated per row: here as many cells
# of each type as were held out.

# %%
cells = pgs.tl.generate(test.obs[["bulk_labels"]], model=model)
cells

# %% [markdown]
# `X` is log1p of counts per 10,000, and `layers["counts"]` has the counts. A combination that no training cell had is
# an error, unless you pass `allow_unseen=True`; such cells are marked:

# %%
try:
    pgs.tl.generate({"bulk_labels": "CD34+", "phase": "G2M"}, n_obs=10, model=model)
except ValueError as error:
    print(error)

# %% [markdown]
# ## Are they realistic?
#
# Generated cells are compared with the held-out cells, which were not used for fitting. The baselines are real training
# cells, a Gaussian copula of each type, and each gene drawn independently. `best` is the value of a perfect generator.

# %%
table = pgs.tl.check_generated(cells, test, training=train, groupby="bulk_labels")
table.query("level == 'all'").drop(columns=["level", "n_cells"]).round(3)

# %%
pgs.pl.check_generated(cells)

# %% [markdown]
# If each gene is drawn independently, means and zeros are correct, but the correlation between genes is lost
# (`correlation`). `rf_auc` is the AUROC of a random forest that distinguishes the cells from held-out ones; 0.5 is
# chance. `as_requested` is the fraction of cells for which a classifier trained on real cells predicts the requested
# type. `nn_ratio` and `attack_auroc` test whether cells are copies of training cells: real training cells have a ratio
# of 0, as copies would. With so few cells all of these values are imprecise, and those of single types vary widely.
#
# ## What if these cells were about to divide?
#
# The expression of every held-out cell in phase G1 is predicted twice: with the recorded phase, and with the phase set
# to G2M. The difference is the predicted shift. The columns of the observed difference and its test are empty, because
# `resting` contains no cells in G2M and no donors are given.

# %%
resting = test[test.obs["phase"] == "G1"].copy()
result = pgs.tl.counterfactual(resting, {"phase": "G2M"}, model=model)
shift = pgs.get.counterfactual(result)
shift.head(10)

# %% [markdown]
# Do cells that really are in G2M show this difference? The held-out cells show how genes differ between the two phases.
# Dividing cells belong to other types than non-dividing cells, so means are compared within types. The baseline is the
# same difference in the training cells.


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
# Here the model agrees with the held-out cells no better than the simple difference in the training cells does.
#
# ## What not to conclude
#
# * Generated cells are not new evidence. They reproduce what the model learned from the training cells, so do not test
#   hypotheses on them: generating more cells does not make a result more certain.
# * They are cells of these donors. They cannot replace donors, conditions or types that were not measured.
# * They are not anonymous. An attack that fails here does not prove privacy.
# * A counterfactual is an association, not the outcome of an experiment. Cells in G2M also differ from cells in G1 in
#   type, and in everything else that is confounded with the phase in these cells.
# * One sample is not representative of other people. With several donors, hold out whole donors, and pass `group_key=`
#   to `pgs.get.counterfactual`.
#
# Next: [What if](../docs/what_if.md) and [Generate cells](../docs/generation.md) have results on several data sets.
