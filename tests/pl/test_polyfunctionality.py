import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from matplotlib.colors import same_color
from matplotlib.text import Text

from polygene_scverse import pl
from polygene_scverse.pl._polyfunctionality import FOUND, OTHER


@pytest.fixture
def moved():
    """Thirty genes, the first four of which are significant."""
    table = pd.DataFrame(
        {
            "gene": [f"g{i}" for i in range(30)],
            "shift": np.linspace(3, 0, 30),
            "expression_shift": np.linspace(0, 1, 30),
            "fdr": np.where(np.arange(30) < 4, 0.01, 0.5),
        },
        index=[str(i) for i in range(30)],
    )
    adata = AnnData(shape=(2, 2))
    adata.uns["polygene"] = {"polyfunctionality": {"table": table, "groupby": "tissue", "n_null": 6}}
    return adata


def test_points_are_the_table(moved):
    ax = pl.polyfunctionality(moved, 3, show=False)
    others, found = ax.collections
    np.testing.assert_allclose(found.get_offsets()[:, 1], np.linspace(3, 0, 30)[:4])
    np.testing.assert_allclose(others.get_offsets()[:, 0], np.linspace(0, 1, 30)[4:])
    assert same_color(found.get_facecolor()[0], FOUND)
    assert same_color(others.get_facecolor()[0], OTHER)
    assert [text.get_text() for text in ax.texts] == ["g0", "g1", "g2"]
    assert ax.get_title() == "tissue\n4 of 30 genes at FDR 0.05 (red), 6 groups"


def test_named_genes_and_no_null(moved):
    moved.uns["polygene"]["polyfunctionality"]["n_null"] = 0
    for genes in (["g7"], "g7"):
        ax = pl.polyfunctionality(moved, genes, show=False)
        assert [text.get_text() for text in ax.texts] == ["g7"]
    assert ax.get_title() == "tissue\nnot tested: too few groups"
    with pytest.raises(KeyError, match=r"`genes`: \['XIST'\] are not among"):
        pl.polyfunctionality(moved, ["XIST"], show=False)


def test_labels_do_not_lie_on_each_other(moved):
    moved.uns["polygene"]["polyfunctionality"]["table"]["shift"] = 1.0
    moved.uns["polygene"]["polyfunctionality"]["table"]["expression_shift"] = 1.0
    ax = pl.polyfunctionality(moved, 6, show=False)
    boxes = [Text.get_window_extent(text) for text in ax.texts]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_show_and_save(moved, tmp_path):
    assert pl.polyfunctionality(moved, show=True, save=tmp_path / "moved.png") is None
    assert (tmp_path / "moved.png").stat().st_size > 5_000
