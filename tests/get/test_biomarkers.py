import pandas as pd
import pytest
from anndata import AnnData

from polygene_scverse import get


@pytest.fixture
def adata():
    """Gene a carries in both contexts, b in one, c in none: its FDR is too high, or its expression lower."""
    rows = [
        ("a", "x", 4.0, 1.0, 0.01), ("b", "x", 2.0, 1.0, 0.01), ("c", "x", 3.0, 1.0, 0.20),
        ("a", "y", 1.0, 0.5, 0.04), ("b", "y", -1.0, 1.0, 0.01), ("c", "y", 0.5, -1.0, 0.01),
    ]  # fmt: skip
    table = pd.DataFrame(rows, columns=["gene", "context", "score", "log_fold_change", "fdr"]).assign(category="ill")
    table.index = table.index.astype(str)
    adata = AnnData(shape=(2, 2))
    adata.uns["polygene"] = {"biomarkers": {"table": table, "phenotype": "disease"}}
    return adata


def test_contexts_are_counted(adata):
    table = get.biomarkers(adata, "ill").set_index("gene")
    assert table["n_contexts"].to_dict() == {"a": 2, "b": 1, "c": 0}
    assert table["contexts"].to_dict() == {"a": "x, y", "b": "x", "c": ""}
    assert table["score"].to_dict() == pytest.approx({"a": 1.0, "b": (0.5 - 1.0) / 2, "c": (0.75 + 0.5) / 2})
    assert (table["n_scored"] == 2).all()
    assert (table["n_tested"] == 2).all()
    assert get.biomarkers(adata, fdr=0.5).set_index("gene")["n_contexts"]["c"] == 1
    assert get.biomarkers(adata, n_top=1).set_index("gene")["n_contexts"].to_dict() == {"a": 2, "b": 0, "c": 0}


def test_a_category_that_is_a_number(adata):
    table = adata.uns["polygene"]["biomarkers"]["table"]
    table["category"] = "20"
    pd.testing.assert_frame_equal(get.biomarkers(adata, 20), get.biomarkers(adata, "20"))


def test_without_a_null_scores_decide(adata):
    adata.uns["polygene"]["biomarkers"]["table"]["fdr"] = float("nan")
    table = get.biomarkers(adata).set_index("gene")
    assert table["n_contexts"].to_dict() == {"a": 2, "b": 1, "c": 1}
    assert (table["n_scored"] == 2).all()
    assert (table["n_tested"] == 0).all()


def test_by_context(adata):
    table = get.biomarkers(adata, by_context=True)
    assert table["score"].is_monotonic_decreasing
    assert table.query("carries")["gene"].tolist() == ["a", "b", "a"]


def test_what_is_not_there_is_said(adata):
    with pytest.raises(ValueError, match="`category`: found 'well'"):
        get.biomarkers(adata, "well")
    with pytest.raises(KeyError, match=r"Call pgs\.tl\.biomarkers"):
        get.biomarkers(AnnData(shape=(2, 2)))
