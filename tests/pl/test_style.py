import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from matplotlib import colors

from polygene_scverse.pl import _style


@pytest.mark.parametrize("n", [1, 8, 9, 10, 11, 25, 60], ids=str)
def test_palette(n):
    palette = _style.palette(n)
    assert len(palette) == len(set(palette)) == n
    assert all(colors.is_color_like(color) for color in palette)
    assert min(np.ptp(colors.to_rgb(color)) for color in palette) > 0.1  # no greys, which are missing values


def test_palette_gives_up_on_very_many():
    assert _style.palette(500) == ["grey"] * 500


@pytest.fixture
def cells():
    obs = pd.DataFrame(
        {
            "p": pd.Categorical(["a", "b", "c"]),
            "polygene_p": pd.Categorical(["c", "d", "a"], categories=["d", "c", "a"]),
            "polygene_p_confidence": 1.0,
        },
        index=["x", "y", "z"],
    )
    return AnnData(np.zeros((3, 1), dtype=np.float32), obs=obs)


def test_prediction_has_the_colours_of_the_recorded(cells):
    cells.uns["p_colors"] = ["red", "lime", "blue"]
    _style.note_colors(cells, "polygene_p")
    d, c, a = cells.uns["polygene_p_colors"]
    assert (c, a) == ("blue", "red")
    assert d not in ("red", "lime", "blue")
    assert cells.uns["p_colors"] == ["red", "lime", "blue"]


def test_colours_of_the_recorded_are_noted_too(cells):
    _style.note_colors(cells, "polygene_p")
    recorded = dict(zip("abc", cells.uns["p_colors"], strict=True))
    predicted = dict(zip("dca", cells.uns["polygene_p_colors"], strict=True))
    assert list(recorded.values()) == list(_style.PETROFF_10[:3])
    assert predicted == {"d": _style.PETROFF_10[3], "c": recorded["c"], "a": recorded["a"]}


def test_colours_that_are_there_stay(cells):
    cells.uns["polygene_p_colors"] = ["red", "lime", "blue"]
    _style.note_colors(cells, "polygene_p")
    assert cells.uns["polygene_p_colors"] == ["red", "lime", "blue"]
    assert "p_colors" not in cells.uns


@pytest.mark.parametrize("key", ["polygene_p_confidence", "a gene"], ids=["number", "gene"])
def test_no_colours_for_numbers(cells, key):
    _style.note_colors(cells, key)
    assert list(cells.uns) == []


def test_text_width():
    narrow, wide = (_style.text_width(labels, 10) for labels in (["i"], ["i", "W" * 20]))
    assert 0 < narrow < 0.1
    assert 1.5 < wide < 3.5
    assert _style.text_width(["W" * 20], 20) == pytest.approx(2 * wide, rel=0.05)
    assert _style.text_width(["", " "], 10) == 0
