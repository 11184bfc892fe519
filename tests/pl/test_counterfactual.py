from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from anndata import AnnData
from matplotlib.text import Annotation, Text

import polygene_scverse as pgs
from polygene_scverse.pl._counterfactual import spread


@pytest.fixture
def result():
    """Seven donors with both labels, six genes that rise, names of any length."""
    rng = np.random.default_rng(0)
    n, n_genes = 7 * 24, 40
    donor, yes = np.repeat(np.arange(7), 24), np.tile(np.arange(24) % 2 == 0, 7)
    observed = rng.normal(0, 0.3, (n, n_genes)) + rng.normal(0, 0.2, (7, n_genes))[donor]
    observed[:, :6] += 2.0 * yes[:, None]
    unchanged = rng.random((n, n_genes))
    shift = np.where(np.arange(n_genes) < 6, 1.5, rng.normal(0, 0.05, n_genes)) * ~yes[:, None]
    obs = pd.DataFrame({"donor": donor.astype(str), "stim": np.where(yes, "yes", "no")})
    obs["kind"] = pd.Categorical.from_codes(
        np.arange(n) // 2 % 6, [f"a cell type with a long name, {i}" for i in range(6)]
    )
    obs.index = obs.index.astype(str)
    names = [f"gene with a very long name {i}" if i % 2 else f"G{i}" for i in range(n_genes)]
    note = {"phenotypes": {"stim": "yes"}, "columns": {"stim": "stim"}}
    return AnnData(
        unchanged + shift,
        obs=obs,
        var=pd.DataFrame({"measured": True}, index=names),
        layers={"unchanged": unchanged, "observed": sp.csr_matrix(observed)},
        uns={"polygene": {"counterfactual": note}},
    )


def labels(ax):
    return [text for text in ax.texts if isinstance(text, Annotation)]


def test_points_are_the_table(result):
    (ax,) = pgs.pl.counterfactual(result, group_key="donor", show=False)
    table = pgs.get.counterfactual(result, group_key="donor")
    drawn = np.concatenate([np.asarray(points.get_offsets()) for points in ax.collections])
    expected = table[["observed", "shift"]].to_numpy()
    np.testing.assert_allclose(np.sort(drawn, axis=0), np.sort(expected, axis=0))
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["other (34)", "FDR < 0.05 (6)"]
    r = np.corrcoef(table["observed"], table["shift"])[0, 1]
    assert ax.get_title() == f"all\nr = {r:.2f}, 84 cells, 7 groups"
    assert {text.get_text() for text in labels(ax)} == set(table["gene"][:10])
    for text in labels(ax):
        row = table.set_index("gene").loc[text.get_text()]
        np.testing.assert_allclose(text.xy, (row["observed"], row["shift"]))


def test_labels_stand_apart_and_inside_of_the_figure(result):
    axes = pgs.pl.counterfactual(result, "kind", genes=30, show=False)
    assert len(axes) == 6
    figure = axes[0].figure
    figure.draw_without_rendering()
    for ax in axes:
        of_panel = sorted(labels(ax), key=lambda text: text.xyann[1])
        boxes = [Text.get_window_extent(text) for text in of_panel]
        assert all(above.y0 > below.y0 for below, above in pairwise(boxes))
        assert all(box.x1 <= figure.bbox.x1 for box in boxes)
        assert not any(box.overlaps(other.get_window_extent()) for box in boxes for other in axes if other is not ax)


def test_genes_and_levels_that_are_named(result):
    kind = "a cell type with a long name, 3"
    (ax,) = pgs.pl.counterfactual(result, "kind", levels=kind, genes=["G0", "G38"], show=False)
    assert ax.get_title().startswith(kind)
    assert [text.get_text() for text in labels(ax)] == ["G38", "G0"]
    assert ax.get_legend() is None
    (ax,) = pgs.pl.counterfactual(result, genes="G38", show=False)
    assert [text.get_text() for text in labels(ax)] == ["G38"]
    (ax,) = pgs.pl.counterfactual(result, genes=0, show=False)
    assert not labels(ax)


def test_too_few_groups_are_said(result):
    few = result[result.obs["donor"] < "4"].copy()
    with pytest.warns(UserWarning, match="too few groups for a test"):
        (ax,) = pgs.pl.counterfactual(few, group_key="donor", show=False)
    assert ax.get_title().endswith("48 cells, not tested")
    assert ax.get_legend() is None


def test_what_is_not_there(result):
    with pytest.raises(KeyError, match=r"`genes`: \['NOPE'\] are not in the result"):
        pgs.pl.counterfactual(result, genes="NOPE", show=False)
    with pytest.raises(KeyError, match=r"`levels`: \['c'\] are not among those with cells to change"):
        pgs.pl.counterfactual(result, "kind", levels="c", show=False)
    with pytest.raises(ValueError, match=r"no observed difference to compare with.* recorded as {'stim': 'yes'}"):
        pgs.pl.counterfactual(result[result.obs["stim"] == "no"].copy(), show=False)


def test_it_is_saved(result, tmp_path):
    axes = pgs.pl.counterfactual(result, show=False, save=tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 10_000
    assert axes


@pytest.mark.parametrize("wanted", [[0.5] * 4, [0.0, 0.0, 1.0], [0.98, 0.99, 1.0], [0.1, 0.4, 0.9]])
def test_places_stand_apart(wanted):
    places = spread(np.array(wanted), 0.1)
    assert (np.diff(places) >= 0.1 - 1e-9).all()
    assert places.min() >= 0.0
    assert places.max() <= 1.0
    if wanted == [0.1, 0.4, 0.9]:
        np.testing.assert_allclose(places, wanted)


def test_more_places_than_there_is_room_for():
    np.testing.assert_allclose(spread(np.full(21, 0.3), 0.1), np.linspace(0, 1, 21))
