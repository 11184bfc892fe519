import matplotlib.pyplot as plt
import numpy as np
import pytest

from polygene_scverse import get, pl


@pytest.mark.parametrize("normalize", [None, "true", "pred", "all"], ids=str)
def test_squares_are_the_matrix(drawn, normalize):
    ax = pl.confusion(drawn, "phase", normalize=normalize, show=False)
    expected = get.confusion(drawn, "phase", normalize=normalize)
    np.testing.assert_array_equal(ax.images[0].get_array(), expected)
    numbers = {(round(t.get_position()[1]), round(t.get_position()[0])): t.get_text() for t in ax.texts}
    digits = "d" if normalize is None else ".2f"
    shown = {(i, j): format(v, digits) for (i, j), v in np.ndenumerate(expected.to_numpy()) if v >= 0.005}
    assert numbers == shown


def test_labels_have_the_number_of_cells(drawn):
    ax = pl.confusion(drawn, "phase", show=False)
    n_cells = drawn.obs["phase"].value_counts()
    assert [t.get_text() for t in ax.get_yticklabels()] == [f"{name} ({n_cells[name]})" for name in ("G1", "G2M", "S")]
    assert [t.get_text() for t in ax.get_xticklabels()] == ["G1", "G2M", "S"]


def test_categories_without_cells_are_left_out(drawn):
    few = drawn[drawn.obs["bulk_labels"].isin(["CD19+ B", "CD56+ NK"])]
    ax = pl.confusion(few, "bulk_labels", show=False)
    used = set(few.obs["bulk_labels"]) | set(few.obs["polygene_bulk_labels"])
    assert {t.get_text() for t in ax.get_xticklabels()} == used
    assert len(used) < 10


def test_numbers_are_readable(drawn):
    ax = pl.confusion(drawn, "phase", show=False)
    colors = {t.get_text(): t.get_color() for t in ax.texts}
    assert {colors[text] for text in colors if float(text) > 0.7} == {"white"}
    assert {colors[text] for text in colors if float(text) < 0.3} == {"black"}


def test_no_numbers_where_categories_are_many(drawn):
    categories = [f"type {i}" for i in range(40)]
    codes = np.arange(drawn.n_obs) % 40
    drawn.obs["phase"] = np.array(categories)[codes]
    drawn.obs["polygene_phase"] = np.array(categories)[codes]
    drawn.uns["polygene"]["predict"]["phase"] = categories
    ax = pl.confusion(drawn, "phase", show=False)
    assert len(ax.texts) == 0
    assert len(ax.get_xticklabels()) == 40


def test_labels_are_inside_the_figure(drawn):
    ax = pl.confusion(drawn, "bulk_labels", show=False)
    ax.figure.canvas.draw()
    box, figure = ax.get_tightbbox(), ax.figure.bbox
    assert box.x0 >= 0
    assert box.y0 >= 0
    assert box.x1 <= figure.x1
    assert box.y1 <= figure.y1


def test_axes_of_the_caller(drawn):
    _, (left, right) = plt.subplots(1, 2)
    assert pl.confusion(drawn, "phase", ax=right, cmap="viridis", show=False) is right
    assert right.images[0].get_cmap().name == "viridis"
    assert not left.images


def test_show_and_save(drawn, tmp_path):
    assert pl.confusion(drawn, "phase", show=True, save=tmp_path / "confusion.png") is None
    assert (tmp_path / "confusion.png").stat().st_size > 5_000


def test_nothing_recorded(drawn):
    drawn.obs["phase"] = "unknown"
    with pytest.raises(ValueError, match="`phenotype`: no cell has a recorded value of 'phase'"):
        pl.confusion(drawn, "phase", show=False)


def test_not_predicted(drawn):
    with pytest.raises(KeyError, match="no prediction of 'louvain' found"):
        pl.confusion(drawn, "louvain", show=False)
