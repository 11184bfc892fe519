import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from polygene_scverse import get


@pytest.fixture
def checked():
    table = pd.DataFrame({"level": ["all", "B"] * 2, "metric": ["rf_auc"] * 2 + ["energy"] * 2, "generated": 0.5})
    return AnnData(np.ones((2, 2)), uns={"polygene": {"check_generated": {"table": table, "groupby": ["type"]}}})


def test_table(checked):
    table = get.check_generated(checked)
    assert len(table) == 4
    table["generated"] = 0.0
    assert (get.check_generated(checked)["generated"] == 0.5).all()


def test_level(checked):
    table = get.check_generated(checked, level="B")
    assert list(table.index) == [0, 1]
    assert set(table["level"]) == {"B"}
    with pytest.raises(ValueError, match="`level`: found 'T'"):
        get.check_generated(checked, level="T")


def test_not_checked():
    with pytest.raises(KeyError, match=r"Call pgs\.tl.check_generated"):
        get.check_generated(AnnData(np.ones((2, 2))))
