import numpy as np
import pandas as pd
import pytest

from polygene_scverse.evaluation._evaluate import evaluate_folds
from polygene_scverse.evaluation._folds import Training
from polygene_scverse.evaluation._null import NULL
from polygene_scverse.evaluation._predictions import MODEL


def test_nothing_is_written(cells, small):
    donor = cells.obs["donor"].cat.codes.to_numpy()
    cells.obs["arm"] = np.array(["control", "treated"])[donor % 2]
    obs = cells.obs.copy()
    result = evaluate_folds(cells, ["sex", "arm"], 2, Training("donor", 0, small), ["majority"], 3, 1)
    pd.testing.assert_frame_equal(cells.obs, obs)
    assert not cells.uns
    methods = result.table.groupby("phenotype")["method"].unique()
    assert list(methods["sex"]) == [MODEL, "majority"]
    assert list(methods["arm"]) == [MODEL, "majority", NULL]  # sex varies within donors
    assert set(result.by_group["group"]) == set(obs["donor"])
    for member in np.unique(donor):
        assert len(set(result.folds[donor == member])) == 1
    assert set(result.folds) == {0, 1}
    assert result.sentences[0].startswith("300 test cells of 6 held-out groups of 'donor'.")


@pytest.mark.parametrize("n_null", [0, 1], ids=["plain", "null"])
def test_without_groups(cells, small, n_null):
    """Single cells are one stratum; there are no groups to score or to permute."""
    result = evaluate_folds(cells, ["sex"], 2, Training(None, 0, small), ["majority"], 3, n_null)
    assert result.by_group.empty
    assert set(result.table["n_groups"]) == {1}
    assert list(result.table["method"].unique()) == [MODEL, "majority"]
