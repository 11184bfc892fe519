import pandas as pd
import pytest

from polygene_scverse import get


@pytest.fixture
def audited(predicted):
    """Data with an audit of a phenotype, in which two cells have no known category."""
    table = pd.DataFrame({"sample": ["s2", "s1"], "phenotype": "cell_type", "score": [-1.0, 2.0]})
    stored = {"table": table, "notes": ["one."], "phenotypes": ["cell_type"], "sample_key": "sample"}
    predicted.uns["polygene"]["audit"] = stored
    predicted.obs["polygene_audit_cell_type"] = [0.9, 0.1, 0.5, None, None, None, 0.1]
    return predicted


def test_samples(audited):
    table = get.audit(audited)
    assert table["sample"].tolist() == ["s2", "s1"]
    assert table.attrs["notes"] == ["one."]
    table["score"] = 0.0
    assert audited.uns["polygene"]["audit"]["table"]["score"].tolist() == [-1.0, 2.0]


def test_cells(audited):
    table = get.audit(audited, phenotype="cell_type")
    assert table.index.tolist() == ["cell1", "cell6", "cell2", "cell0"]
    assert table["probability"].tolist() == [0.1, 0.1, 0.5, 0.9]
    assert table["recorded"].tolist() == ["B", "T", "T", "T"]


def test_errors(audited, predicted):
    with pytest.raises(ValueError, match="`phenotype`: found 'age', but it must be one of"):
        get.audit(audited, phenotype="age")
    del predicted.uns["polygene"]["audit"]
    with pytest.raises(KeyError, match=r"`adata`: no audit is stored.*pgs.tl.audit"):
        get.audit(predicted)
