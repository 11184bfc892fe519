import matplotlib.pyplot as plt
import numpy as np
import pytest

from polygene_scverse import get, pl


def test_lines_are_the_tables(drawn):
    ax = pl.abstention(drawn, show=False)
    assert [line.get_label() for line in ax.lines] == ["bulk_labels", "phase"]
    for line in ax.lines:
        table = get.abstention(drawn, line.get_label())
        np.testing.assert_allclose(line.get_xdata(), table["answered"])
        np.testing.assert_allclose(line.get_ydata(), table["error"])


def test_points_mark_thresholds(drawn):
    ax = pl.abstention(drawn, "phase", show=False)
    sure = drawn.obs["polygene_phase_confidence"].to_numpy()
    marked = [points.get_offsets()[0, 0] for points in ax.collections]
    assert marked == pytest.approx([(sure >= t).mean() for t in (0.5, 0.7, 0.9)])
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["phase", "confidence ≥ 0.5", "confidence ≥ 0.7", "confidence ≥ 0.9"]


def test_a_threshold_that_no_cell_reaches_has_no_point(drawn):
    drawn.obs["polygene_phase_confidence"] = 0.6
    assert len(pl.abstention(drawn, "phase", show=False).collections) == 1


def test_axes_of_the_caller(drawn):
    _, (_, right) = plt.subplots(1, 2)
    assert pl.abstention(drawn, "phase", ax=right, show=False) is right


def test_show_and_save(drawn, tmp_path):
    assert pl.abstention(drawn, show=True, save=tmp_path / "abstention.png") is None
    assert (tmp_path / "abstention.png").stat().st_size > 5_000


def test_nothing_known(drawn):
    drawn.obs["phase"] = "unknown"
    with pytest.raises(ValueError, match=r"`phenotypes`: no cell has a recorded value of \['phase'\]"):
        pl.abstention(drawn, "phase", show=False)
