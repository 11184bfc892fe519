"""scANVI of scvi-tools as a baseline."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray
from scvi.model import SCANVI, SCVI

from polygene_scverse._compat import seeded
from polygene_scverse.evaluation._features import Features
from polygene_scverse.evaluation._folds import Codes

UNLABELLED = "unlabelled"


def scanvi_probabilities(
    train: Features, labels: Codes, groups: Codes | None, test: Features, seed: int, epochs: tuple[int, int] = (50, 20)
) -> NDArray[np.float64]:
    """Train scVI, then scANVI, on labelled cells and predict others; a `Baseline`.

    Parameters
    ----------
    train, test
        Training and test cells.
    labels
        Category of each training cell; shape (n_train,).
    groups
        Not used.
    seed
        Seed of the weights and the order of cells.
    epochs
        Numbers of epochs of scVI and of scANVI.

    Returns
    -------
    Probability of each label that occurs, in ascending order; shape (n_test, n_labels).

    Raises
    ------
    ValueError
        If there are no raw counts.
    """
    if train.counts is None or test.counts is None:
        raise ValueError("`baselines`: scANVI needs raw counts, but adata has log1p values. Leave it out.")
    genes = pd.DataFrame(index=[f"gene{i}" for i in range(train.x.shape[1])])
    cells = AnnData(train.counts, obs=_obs(labels.astype(str)), var=genes)
    query = AnnData(test.counts, obs=_obs(np.full(len(test.x), UNLABELLED)), var=genes)
    plan = {"enable_progress_bar": False, "train_size": 1.0, "shuffle_set_split": False}
    with seeded(seed), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        SCVI.setup_anndata(cells, labels_key="label")
        first = SCVI(cells)
        first.train(epochs[0], **plan)
        model = SCANVI.from_scvi_model(first, unlabeled_category=UNLABELLED)
        model.train(epochs[1], **plan)
        table = model.predict(query, soft=True)
    return np.asarray(table[[str(label) for label in np.unique(labels)]], dtype=np.float64)


def _obs(labels: NDArray[np.str_]) -> pd.DataFrame:
    return pd.DataFrame({"label": labels}, index=[f"cell{i}" for i in range(len(labels))])
