"""A model that the first release wrote: every later one loads it and predicts the same.

``python tests/model/test_folder_golden.py`` writes it anew, which is only right if the format version goes up.
"""

import json
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from polygene_scverse.model import Polygene

FOLDER = Path(__file__).parent / "golden_model"
EXPECTED = FOLDER / "expected.json"
N_GENES = 12


def golden_cells(n_cells, first=0):
    """Counts by whole-number arithmetic alone, so that they are the same everywhere and for ever."""
    i, j = np.arange(first, first + n_cells)[:, None], np.arange(N_GENES)[None, :]
    counts = (i * i * 7 + j * j * 3 + i * j * 5) % 11 * ((i + j) % 3 > 0) + 9 * (j % 3 == i % 3) + (j % 2 == i % 2) * 4
    obs = pd.DataFrame(
        {"kind": np.array(["a", "b", "c"])[i[:, 0] % 3], "sex": np.array(["f", "m"])[i[:, 0] % 2]},
        index=[f"cell{n}" for n in i[:, 0]],
    )
    return AnnData(counts.astype(np.float32), obs=obs, var=pd.DataFrame(index=[f"gene{n}" for n in range(N_GENES)]))


def answers(model):
    query = golden_cells(6, first=1000)
    tables = model.predict_phenotype(query)
    found = {name: table.to_numpy().astype(float).tolist() for name, table in tables.items()}
    found |= {"embedding": model.get_latent_representation(query).astype(float).tolist()}
    sets = model.prediction_sets(tables, coverage=0.8)
    return found | {"sets": {name: table.to_numpy().tolist() for name, table in sets.items()}}


@pytest.fixture(scope="module")
def model():
    return Polygene.load(FOLDER, adata=False)


def test_it_is_small():
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 60_000


def test_it_says_what_it_is_of(model):
    assert model.categories == {"kind": ["a", "b", "c"], "sex": ["f", "m"]}
    assert sorted(model.genes) == sorted(f"gene{n}" for n in range(N_GENES))
    assert model.is_trained
    assert len(model.history_["train_loss"]) == 20
    assert set(model.calibration_) == {"kind", "sex"}


def test_it_answers_as_it_did(model):
    expected = json.loads(EXPECTED.read_text())
    found = answers(model)
    assert set(found) == set(expected)
    assert found["sets"] == expected["sets"]
    for name in ("kind", "sex", "embedding"):
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-4, atol=1e-5, err_msg=name)


def test_novelty_of_then_is_refused_in_words(model):
    """Cells were compared with something else then."""
    with pytest.raises(ValueError, match=r"no training cells to compare with, because .* an earlier version"):
        model.novelty(golden_cells(6))


def test_it_is_saved_again_as_it_was(model, tmp_path):
    model.save(tmp_path / "m")
    again = Polygene.load(tmp_path / "m", adata=False)
    for name, table in model.predict_phenotype(golden_cells(6)).items():
        pd.testing.assert_frame_equal(again.predict_phenotype(golden_cells(6))[name], table)


def write():
    adata = golden_cells(240)
    Polygene.setup_anndata(adata, phenotype_keys=["kind", "sex"])
    model = Polygene(adata, n_hidden=8, n_layers=1, n_heads=2, n_intermediate=8, n_bins=4)
    model.train(max_epochs=20, validation_size=0.4, enable_progress_bar=False, plan_kwargs={"lr": 0.01})
    model.run_name_ = "golden"
    model.save(FOLDER, overwrite=True)
    found = answers(Polygene.load(FOLDER, adata=False))
    EXPECTED.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    sys.exit(write())
