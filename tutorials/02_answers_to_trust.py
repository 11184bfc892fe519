"""Notebook in text; `nox -s tutorials` executes it."""

# %% [markdown]
# # Reliability of predictions
#
# **Which of these predictions can I rely on?**
#
# A model predicts a category for every cell, even for cells of a type that it does not know. This notebook checks the
# probabilities, excludes uncertain cells, looks for cells that are unlike the training data, and compares the model
# with simpler methods. It takes a few minutes on a laptop.

# %%
import polygene_scverse as pgs

adata = pgs.datasets.pbmc68k()
model = pgs.tl.train(adata, phenotypes="bulk_labels", validation_size=0.2, verbose=False)
pgs.tl.predict_phenotype(adata, coverage=0.9)
held_out = adata[model.validation_indices].copy()

# %% [markdown]
# ## Are 80 % of the predictions with 80 % confidence correct?
#
# After training, the probabilities are calibrated on the held-out cells, or donors with `group_key`. `uns` records what
# they were calibrated on. The expected calibration error (ECE) is the mean difference between confidence and accuracy;
# with so few cells it is imprecise.

# %%
print(adata.uns["polygene"]["calibration"]["bulk_labels"])

# %%
pgs.pl.reliability(held_out, "bulk_labels")

# %% [markdown]
# ## Prediction sets
#
# A **prediction set** contains the true category in about 90 % of cells like those that were held out.

# %%
sets = pgs.get.prediction_sets(adata, "bulk_labels")
sets.head()

# %% [markdown]
# The risk–coverage curve shows how many errors remain if only the cells with the highest confidence are kept:

# %%
pgs.pl.abstention(held_out, "bulk_labels")

# %% [markdown]
# `min_confidence` leaves the other cells "unassigned".

# %%
pgs.tl.predict_phenotype(held_out, model=model, min_confidence=0.6)
unassigned = (held_out.obs["polygene_bulk_labels"] == "unassigned").mean()
print(f"{unassigned:.0%} of the cells are unassigned")

# %% [markdown]
# ## Cell types that are not in the training data
#
# This model is trained without monocytes, and then predicts all cells. The novelty of a cell is the fraction of
# the cells held out in training that are less novel.

# %%
known = adata[adata.obs["bulk_labels"] != "CD14+ Monocyte"].copy()
small = pgs.tl.train(known, phenotypes="bulk_labels", verbose=False)
pgs.tl.novelty(adata, model=small)
adata.obs.groupby("bulk_labels", observed=True)["polygene_novelty"].median().sort_values()

# %% [markdown]
# Here the novelty of the monocytes is high, but so is that of NK cells and naive T cells, which are known types. Look
# at the cells before you conclude that they are of a new type.
#
# ## New donors, and baselines
#
# Cells of one donor are similar, so the accuracy on new donors has to be measured on donors that were not in training.
# `pp.confounding` measures how far the donor determines a phenotype (`theils_u`, from 0 to 1; here hardly at all).
# `tl.evaluate` holds out whole donors, trains the model and simpler methods on the same cells, and prints which
# differences are significant. These cells are simulated and easy to classify; the call is the same for real data.

# %%
cells = pgs.datasets.simulate(n_obs=1000, n_vars=300, seed=0)
pgs.pp.confounding(cells, group_key="donor")

# %%
table = pgs.tl.evaluate(
    cells,
    group_key="donor",
    phenotypes="cell_type",
    split=2,
    baselines=["majority", "kNN on PCs", "logistic regression on HVGs"],
    n_bootstrap=200,
    train_kwargs={"verbose": False},
)
pgs.pl.evaluation(cells)

# %% [markdown]
# ## Missing values
#
# `tl.fill_phenotype` predicts missing values, with the phenotypes that are recorded for a cell as evidence. Recorded
# values are not changed.

# %%
cells.obs.loc[cells.obs_names[::4], "sex"] = None
donors = pgs.tl.train(cells, phenotypes=["cell_type", "sex"], group_key="donor", verbose=False)
pgs.tl.fill_phenotype(cells, phenotypes="sex")
cells.obs.loc[cells.obs["sex"].isna(), ["polygene_sex_filled", "polygene_sex_filled_probability"]].head()

# %% [markdown]
# ## What not to conclude
#
# * **That predictions with 95 % confidence are correct in 95 % of *any* cells.** Calibration and prediction sets hold
#   for cells like those that were held out. Predictions for another tissue, technology or donor may be overconfident.
# * **That a cell with low novelty is of a known type.** Subtypes of known types are mostly not detected; see the
#   [results](../docs/trust.md#cell-types-that-are-not-in-the-training-data).
# * **That filled values are measurements.** They are predictions; keep them separate from the recorded values.
#
# Next: [How reliable are the results?](../docs/trust.md) shows the results on five data sets.
