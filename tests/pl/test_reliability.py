import numpy as np
import pytest

from polygene_scverse import get, metrics, pl


def test_bars_are_the_table(drawn):
    (ax,) = pl.reliability(drawn, "phase", n_bins=10, show=False)
    table = get.reliability(drawn, "phase", n_bins=10)
    assert [bar.get_height() for bar in ax.patches] == pytest.approx(table["accuracy"].tolist())
    assert [bar.get_x() for bar in ax.patches] == pytest.approx(table["lower"].tolist())
    np.testing.assert_allclose(ax.collections[1].get_offsets()[:, 0], table["confidence"])


def test_title_has_the_calibration_error(drawn):
    (ax,) = pl.reliability(drawn, "phase", show=False)
    codes = drawn.obs["phase"].cat.codes.to_numpy()
    error = metrics.ece(codes, drawn.obsm["polygene_phase_proba"])
    assert ax.get_title() == f"phase\nECE {error:.3f}, 700 cells"


def test_the_legend_is_below_the_panels(drawn):
    axes = pl.reliability(drawn, show=False)
    (legend,) = axes[0].figure.legends
    words = " ".join(text.get_text() for text in legend.get_texts())
    assert "paler: fewer cells" in words
    assert "confidence, and its gap to the accuracy" in words
    axes[0].figure.canvas.draw()
    assert all(legend.get_window_extent().y1 <= ax.get_tightbbox().y0 for ax in axes[0].figure.axes)


def test_a_panel_per_phenotype(drawn):
    axes = pl.reliability(drawn, show=False)
    assert [ax.get_title().split("\n")[0] for ax in axes] == ["bulk_labels", "phase"]


def test_more_cells_are_darker(drawn):
    p = np.full((700, 3), 0.1)
    p[:, 0], p[:30] = 0.8, [0.4, 0.3, 0.3]
    drawn.obsm["polygene_phase_proba"] = p
    (ax,) = pl.reliability(drawn, "phase", show=False)
    assert [bar.get_alpha() for bar in ax.patches] == sorted(bar.get_alpha() for bar in ax.patches)
    assert ax.patches[-1].get_alpha() == 1


def test_show_and_save(drawn, tmp_path):
    assert pl.reliability(drawn, show=True, save=tmp_path / "reliability.png") is None
    assert (tmp_path / "reliability.png").stat().st_size > 5_000


def test_nothing_known(drawn):
    drawn.obs["phase"] = "unknown"
    with pytest.raises(ValueError, match="`phenotypes`: no cell has a recorded value of 'phase'"):
        pl.reliability(drawn, "phase", show=False)


def test_nothing_recorded(drawn):
    del drawn.obs["phase"], drawn.obs["bulk_labels"]
    with pytest.raises(KeyError, match=r"`phenotypes`: none of the predicted phenotypes .* is recorded"):
        pl.reliability(drawn, show=False)
