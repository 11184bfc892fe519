import numpy as np
import pandas as pd
import pytest
from anndata import AnnData, concat

import polygene_scverse as pgs


@pytest.fixture(scope="session")
def trained():
    """Simulated cells, a tenth of them without a label, after training with validation in every second epoch."""
    adata = pgs.datasets.simulate(80, 30, missing=0.1)
    pgs.tl.train(adata, max_epochs=4, batch_size=64, verbose=False, check_val_every_n_epoch=2)
    pgs.tl.predict_phenotype(adata, balance=0.0)  # the most probable category
    return adata


@pytest.fixture
def predicted():
    """Seven cells with predictions and a training of three epochs.

    The model knows B, T and NK; two cells are recorded as missing, in two spellings, and one as a mast cell.
    """
    cells = [f"cell{i}" for i in range(7)]
    categories = ["T", "B", "NK"]
    codes = np.array([0, 1, 1, 0, 2, 0, 0])
    probabilities = np.full((7, 3), 0.1, dtype=np.float32)
    probabilities[np.arange(7), codes] = 0.8
    recorded = pd.Categorical(["T", "B", "T", np.nan, "unknown", "mast", "T"])
    obs = pd.DataFrame(
        {
            "cell_type": recorded,
            "age": [30.0, 40.0, np.nan, 30.0, 40.0, 30.0, 30.0],
            "polygene_cell_type": pd.Categorical.from_codes(codes, categories=categories),
            "polygene_cell_type_confidence": probabilities.max(1),
            "polygene_age": pd.Categorical(["30", "40", "30", "30", "30", "30", "40"]),
            "polygene_age_confidence": 0.5,
            "polygene_hidden": pd.Categorical(["yes", "no"] + ["yes"] * 5),
            "polygene_hidden_confidence": 0.6,
        },
        index=cells,
    )
    adata = AnnData(np.ones((7, 2), dtype=np.float32), obs=obs, obsm={"polygene_cell_type_proba": probabilities})
    losses = {"train_loss": [3.0, 2.0, 1.5], "validation_loss": np.array([3.1, 2.2])}
    note = {"phenotypes": ["cell_type", "age"], "history": losses}
    adata.uns["polygene"] = {"train": note, "predict": {"cell_type": categories, "age": ["30", "40"]}}
    return adata


@pytest.fixture
def joined(predicted):
    """The cells of `predicted`, followed by three whose phenotypes are recorded but not predicted."""
    obs = pd.DataFrame({"cell_type": ["T", "B", "T"]}, index=["other0", "other1", "other2"])
    others = AnnData(np.ones((3, 2), dtype=np.float32), obs=obs)
    return concat([predicted, others], join="outer", uns_merge="first")
