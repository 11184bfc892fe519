import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from polygene_scverse import pl


@pytest.fixture
def adata():
    """Gene a is shared, b belongs to x, c to y, d to none."""
    scores = {"a": (4.0, 1.0), "b": (2.0, -1.0), "c": (-1.0, 0.5), "d": (-1.0, -1.0)}
    rows = [
        {"gene": g, "category": "ill", "context": c, "score": v, "log_fold_change": 1.0, "fdr": 0.01}
        for g, values in scores.items()
        for c, v in zip("xy", values, strict=True)
    ]
    table = pd.DataFrame(rows, index=[str(i) for i in range(8)])
    adata = AnnData(shape=(2, 2))
    adata.uns["polygene"] = {"biomarkers": {"table": table, "phenotype": "disease", "group_key": "donor"}}
    return adata


def test_shared_genes_come_first(adata):
    ax = pl.biomarkers(adata, show=False)
    assert [t.get_text() for t in ax.get_yticklabels()] == ["a", "b", "c"]
    assert [t.get_text() for t in ax.get_xticklabels()] == ["x", "y"]
    np.testing.assert_allclose(ax.images[0].get_array(), [[1, 1], [0.5, -1], [-0.25, 0.5]])
    assert ax.collections[0].get_offsets().tolist() == [[0, 0], [1, 0], [0, 1], [1, 2]]
    assert ax.get_title().startswith("ill\n• gene supports it (")


@pytest.mark.parametrize("n_contexts", [2, 12], ids=str)
@pytest.mark.parametrize(("fdr", "expected"), [(0.01, "FDR < 0.05"), (np.nan, "not tested: too few groups")], ids=str)
def test_the_dots_are_explained_and_nothing_is_cut(n_contexts, fdr, expected):
    contexts = [f"CD4-positive, alpha-beta T cell {i}" for i in range(n_contexts)]
    rows = [{"gene": g, "context": c, "score": 1.0 + (g == "b")} for g in "abc" for c in contexts]
    table = pd.DataFrame(rows, index=[str(i) for i in range(len(rows))])
    table = table.assign(category="ill", log_fold_change=1.0, fdr=fdr)
    adata = AnnData(shape=(2, 2))
    adata.uns["polygene"] = {"biomarkers": {"table": table, "phenotype": "disease", "group_key": "donor"}}
    ax = pl.biomarkers(adata, show=False)
    assert ax.get_title() == f"ill\n• gene supports it ({expected})"
    ax.figure.canvas.draw()
    boxes = [part.get_tightbbox() for part in ax.figure.axes]
    assert min(value for box in boxes for value in (box.x0, box.y0)) > -1
    assert max(box.x1 for box in boxes) < ax.figure.bbox.width + 1
    assert max(box.y1 for box in boxes) < ax.figure.bbox.height + 1


def test_contexts_that_are_not_tested_say_so(adata):
    stored = adata.uns["polygene"]["biomarkers"]
    stored["table"].loc[stored["table"]["context"] == "y", "fdr"] = np.nan
    ax = pl.biomarkers(adata, show=False)
    assert [t.get_text() for t in ax.get_xticklabels()] == ["x", "y (not tested)"]
    assert ax.get_title() == "ill\n• gene supports it (FDR < 0.05)"
    stored["table"]["fdr"], stored["group_key"] = np.nan, ""
    assert pl.biomarkers(adata, show=False).get_title() == "ill\n• gene supports it (not tested: no group_key)"


def test_no_gene(adata):
    with pytest.raises(ValueError, match=r"`category`: no gene supports 'ill' in any context at FDR 0\.001"):
        pl.biomarkers(adata, "ill", fdr=0.001, show=False)
    with pytest.raises(ValueError, match="`category`: found 'well'"):
        pl.biomarkers(adata, "well", show=False)


def test_show_and_save(adata, tmp_path):
    assert pl.biomarkers(adata, show=True, save=tmp_path / "shared.png") is None
    assert (tmp_path / "shared.png").stat().st_size > 5_000
