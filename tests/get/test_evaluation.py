import pandas as pd
import pytest

from polygene_scverse import get


@pytest.fixture
def evaluated(predicted):
    """Data with an evaluation of one phenotype."""
    table = pd.DataFrame({"phenotype": "cell_type", "method": ["Polygene", "kNN"], "score": "accuracy", "value": 0.5})
    groups = table.assign(group="d1", n_cells=7)
    stored = {"table": table, "by_group": groups, "notes": ["one.", "two."], "group_key": "donor"}
    predicted.uns["polygene"]["evaluate"] = stored
    return predicted


def test_a_copy_of_the_table(evaluated):
    table = get.evaluation(evaluated)
    assert table.attrs["notes"] == ["one.", "two."]
    pd.testing.assert_frame_equal(table, evaluated.uns["polygene"]["evaluate"]["table"])
    table["value"] = 0.0
    assert (evaluated.uns["polygene"]["evaluate"]["table"]["value"] == 0.5).all()


def test_by_group(evaluated):
    table = get.evaluation(evaluated, by_group=True)
    assert table["group"].tolist() == ["d1", "d1"]


def test_without_groups(evaluated):
    evaluated.uns["polygene"]["evaluate"]["by_group"] = pd.DataFrame()
    with pytest.raises(KeyError, match="`by_group`: the evaluation was made without groups"):
        get.evaluation(evaluated, by_group=True)


def test_nothing_stored(predicted):
    with pytest.raises(KeyError, match=r"`adata`: no evaluation is stored.*pgs.tl.evaluate"):
        get.evaluation(predicted)
