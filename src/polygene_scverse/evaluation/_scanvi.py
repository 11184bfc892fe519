"""scANVI of scvi-tools as a rival."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData
from numpy.typing import NDArray
from scvi.model import SCANVI, SCVI

from polygene_scverse._compat import seeded

UNLABELLED = "unlabelled"


def scanvi_probabilities(
    train: sp.csr_matrix,
    labels: NDArray[np.integer],
    test: sp.csr_matrix,
    *,
    max_epochs: tuple[int, int] = (50, 20),
    seed: int = 0,
) -> NDArray[np.float64]:
    """Train scVI, then scANVI, on labelled cells and predict others.

    Parameters
    ----------
    train
        Raw counts of labelled cells; shape (n_train, n_genes).
    labels
        Category of each training cell; shape (n_train,).
    test
        Raw counts of the cells to predict; shape (n_test, n_genes).
    max_epochs
        Passes over the training cells of scVI and of scANVI.
    seed
        Seed of weights and order.

    Returns
    -------
    Probability of each label that occurs, ascending; shape (n_test, n_labels).
    """
    genes = [f"gene{i}" for i in range(train.shape[1])]
    cells = AnnData(train, obs=_obs(labels.astype(str)), var=pd.DataFrame(index=genes))
    query = AnnData(test, obs=_obs(np.full(test.shape[0], UNLABELLED)), var=pd.DataFrame(index=genes))
    plan = {"enable_progress_bar": False, "train_size": 1.0, "shuffle_set_split": False}
    with seeded(seed), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        SCVI.setup_anndata(cells, labels_key="label")
        first = SCVI(cells)
        first.train(max_epochs[0], **plan)
        model = SCANVI.from_scvi_model(first, unlabeled_category=UNLABELLED)
        model.train(max_epochs[1], **plan)
        table = model.predict(query, soft=True)
    names = [str(label) for label in np.unique(labels)]
    return table[names].to_numpy(dtype=np.float64)


def _obs(labels: NDArray[np.str_]) -> pd.DataFrame:
    return pd.DataFrame({"label": labels}, index=[f"cell{i}" for i in range(len(labels))])
