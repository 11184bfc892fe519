import pandas as pd
import pytest
from anndata import AnnData

from polygene_scverse import get


def test_a_copy_of_the_table():
    adata = AnnData(shape=(2, 2))
    table = pd.DataFrame({"gene": ["a", "b"], "shift": [2.0, 1.0]}, index=["0", "1"])
    adata.uns["polygene"] = {"polyfunctionality": {"table": table, "groupby": "tissue"}}
    found = get.polyfunctionality(adata)
    pd.testing.assert_frame_equal(found, table.reset_index(drop=True))
    found["shift"] = 0.0
    assert (adata.uns["polygene"]["polyfunctionality"]["table"]["shift"] > 0).all()


def test_nothing_stored():
    with pytest.raises(KeyError, match=r"Call pgs\.tl\.polyfunctionality"):
        get.polyfunctionality(AnnData(shape=(2, 2)))
