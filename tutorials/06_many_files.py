"""Notebook in text; `nox -s tutorials` executes it."""

# %% [markdown]
# # Many files, many processes
#
# **How do I train on more cells than fit into memory, and what happens if the training is interrupted?**
#
# An atlas often comes as many h5ad files. Here, 3,000 simulated cells in three files serve as an example; the calls are
# the same for millions of cells.

# %%
import tempfile
from pathlib import Path

import polygene_scverse as pgs

folder = Path(tempfile.mkdtemp())
cells = pgs.datasets.simulate(n_obs=3000, n_vars=200, seed=0)
for i in range(3):
    cells[1000 * i : 1000 * (i + 1)].copy().write_h5ad(folder / f"shard_{i}.h5ad")

# %% [markdown]
# ## Train on files
#
# Pass paths instead of AnnData: a pattern with braces, a glob, or a list. Files may have any number of cells and
# different genes; a gene missing from a file is unmeasured in its cells. At most two buffers of `buffer_cells` cells
# are in memory.

# %%
model = pgs.tl.train(
    str(folder / "shard_{0..2}.h5ad"),
    phenotypes=["cell_type", "sex"],
    group_key="donor",
    buffer_cells=1000,
    max_epochs=3,
    enable_progress_bar=False,
)

# %% [markdown]
# The same from the shell:
#
#     polygene train 'shard_{0..2}.h5ad' --phenotypes cell_type,sex --group-key donor --output my_model
#
# ## Resume an interrupted training
#
# With `checkpoints`, the state of the training is saved, and the same call continues where it stopped, even if the
# process was killed. Cells are processed in the same order, so the result is that of an uninterrupted training.

# %%
checkpoints = {"folder": folder / "run", "every_steps": 10, "resume": True}
model = pgs.tl.train(
    str(folder / "shard_*.h5ad"),
    phenotypes="cell_type",
    max_epochs=2,
    checkpoints=checkpoints,
    verbose=False,
)
sorted(path.name for path in (folder / "run").iterdir())

# %% [markdown]
# ## Several GPUs
#
# `devices=4, strategy="ddp"` trains in four processes. `batch_size` is the number of cells over all processes, and the
# result equals that of one process. In a script that is started by `torchrun` or SLURM:
#
#     torchrun --nproc-per-node 4 train_distributed.py cells.h5ad my_model --devices 4
#
# [Large data and several processes](../docs/distributed.md) contains the script.
#
# ## How long will it take?
#
# `pgs.tl.estimate_cost` times a few steps on this machine. It takes the arguments of `pgs.tl.train`.

# %%
pgs.tl.estimate_cost(cells, phenotypes="cell_type", verbose=False)

# %% [markdown]
# ## Predict a file
#
# Files are opened in backed mode, so that only the rows that are being predicted are in memory.

# %%
import anndata as ad

new = ad.read_h5ad(folder / "shard_2.h5ad", backed="r")
pgs.tl.predict_phenotype(new, model=model)
new.obs[["cell_type", "polygene_cell_type", "polygene_cell_type_confidence"]].head()

# %% [markdown]
# ## What not to conclude
#
# * **That more cells are more donors.** Scores on new donors are uncertain if there are few donors, however many cells
#   each has.
# * **That these scores hold for new studies.** Files of one study share protocol and batch; hold out whole studies with
#   `group_key` to estimate the accuracy on new ones.
#
# Next: [Large data, interrupted training and several processes](../docs/distributed.md).
