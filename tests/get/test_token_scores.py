import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from polygene_scverse import get


@pytest.fixture
def scored():
    """Scores of two kinds of tokens, as they are noted."""
    note = {"scores": {"tokens": np.array(["all", "genes"]), "of": np.array(["", ""]), "nll": np.array([1.5, np.nan])}}
    return AnnData(np.ones((2, 2), dtype=np.float32), uns={"polygene": {"tokens": note, "mine": note}})


@pytest.mark.parametrize("key", ["tokens", "mine"])
def test_the_table_that_was_returned(scored, key):
    expected = pd.DataFrame({"tokens": ["all", "genes"], "of": ["", ""], "nll": [1.5, np.nan]})
    pd.testing.assert_frame_equal(get.token_scores(scored, key=key), expected, check_dtype=False)


def test_what_is_read_is_not_changed(scored):
    table = get.token_scores(scored)
    table.loc[0, "nll"] = 9.0
    assert scored.uns["polygene"]["tokens"]["scores"]["nll"][0] == 1.5


def test_what_is_not_there(scored):
    with pytest.raises(
        KeyError, match=r"`key`: there are no scores of hidden tokens.*\['other'\].*pgs.tl.score_tokens"
    ):
        get.token_scores(scored, key="other")
