import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from mudata import MuData

from polygene_scverse import pl


def test_default_is_the_predicted_phenotypes(drawn):
    axes = pl.umap(drawn, show=False)
    assert [ax.get_title() for ax in axes] == ["polygene_bulk_labels", "polygene_phase"]


def test_default_without_predictions_is_the_recorded_phenotypes(drawn):
    drawn.obs = drawn.obs[["bulk_labels", "phase"]]
    axes = pl.umap(drawn, show=False)
    assert [ax.get_title() for ax in axes] == ["bulk_labels", "phase"]


def test_default_without_anything_is_plain(pbmc):
    ax = pl.umap(pbmc, basis="X_umap", show=False)
    assert ax.get_title() == ""
    assert ax.get_legend() is None


def test_points_are_those_of_the_embedding(drawn):
    ax = pl.umap(drawn, color="polygene_phase", show=False)
    assert isinstance(ax, Axes)
    points = ax.collections[0].get_offsets()
    np.testing.assert_allclose(np.sort(points, axis=0), np.sort(drawn.obsm["X_polygene_umap"], axis=0), rtol=1e-6)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("Polygene UMAP 1", "Polygene UMAP 2")


def test_recorded_and_predicted_have_the_same_colours(drawn):
    drawn.obs["phase"] = drawn.obs["phase"].astype(str)
    axes = pl.umap(drawn, color=["polygene_phase", "phase"], show=False)
    predicted, recorded = (
        {
            text.get_text(): to_hex(handle.get_facecolor()[0])
            for text, handle in zip(ax.get_legend().get_texts(), ax.get_legend().legend_handles, strict=True)
        }
        for ax in axes
    )
    assert predicted == recorded
    assert len(set(predicted.values())) == 3


def test_no_category_is_grey_as_missing_values_are(drawn):
    drawn.obs.loc[drawn.obs_names[::7], "bulk_labels"] = np.nan
    ax = pl.umap(drawn, color="bulk_labels", show=False)
    (*labels, missing) = (text.get_text() for text in ax.get_legend().get_texts())
    chroma = [np.ptp(handle.get_facecolor()[0][:3]) for handle in ax.get_legend().legend_handles]
    assert missing == "NA"
    assert len(labels) == 10
    assert min(chroma[:-1]) > 0.1
    assert chroma[-1] == 0


def test_palette_of_the_caller_wins(drawn):
    pl.umap(drawn, color="phase", palette=["#ff0000", "#00ff00", "#0000ff"], show=False)
    assert list(drawn.uns["phase_colors"]) == ["#ff0000", "#00ff00", "#0000ff"]


def test_colours_of_the_caller_stay(drawn):
    drawn.uns["phase_colors"] = ["#ff0000", "#00ff00", "#0000ff"]
    pl.umap(drawn, color="phase", show=False)
    assert list(drawn.uns["phase_colors"]) == ["#ff0000", "#00ff00", "#0000ff"]


@pytest.mark.parametrize("fontsize", [10, 16], ids=["default font", "large font"])
def test_legends_do_not_cover_the_next_panel(drawn, fontsize):
    with plt.rc_context({"legend.fontsize": fontsize}):
        axes = pl.umap(drawn, color=["bulk_labels", "polygene_bulk_labels", "phase"], show=False)
        axes[0].figure.canvas.draw()
        for ax in axes:
            legend = ax.get_legend().get_window_extent()
            assert not any(legend.overlaps(other.bbox) for other in axes)


def test_panels_with_wide_legends_stand_below_each_other(drawn):
    long = {name: f"{name} {'of a tissue with a long name' * 6}" for name in drawn.obs["phase"].cat.categories}
    drawn.obs["phase"] = drawn.obs["phase"].cat.rename_categories(long)
    first, second = pl.umap(drawn, color=["phase", "polygene_phase"], show=False)
    assert first.get_position().x0 == pytest.approx(second.get_position().x0)
    assert first.get_position().y0 > second.get_position().y1


def test_genes_confidence_and_arguments_of_scanpy(drawn):
    colors = ["CD3D", "polygene_phase_confidence"]
    axes = pl.umap(drawn, color=colors, ncols=1, frameon=False, title=["a", "b"], show=False)
    assert [ax.get_title() for ax in axes] == ["a", "b"]
    assert not axes[0].axison


def test_axes_of_the_caller(drawn):
    _, (left, right) = plt.subplots(1, 2)
    assert pl.umap(drawn, color="phase", ax=right, show=False) is right
    assert not left.collections


def test_view_is_drawn_and_left_alone(drawn):
    view = drawn[:100]
    ax = pl.umap(view, color="phase", show=False)
    assert view.is_view
    assert len(ax.collections[0].get_offsets()) == 100


def test_show_and_save(drawn, tmp_path):
    assert pl.umap(drawn, show=True, save=tmp_path / "umap.png") is None
    assert (tmp_path / "umap.png").stat().st_size > 10_000


def test_no_embedding(pbmc):
    with pytest.raises(
        KeyError, match=r"`basis`: adata.obsm has no 'X_polygene_umap'.*Call pgs.tl.embed\(adata\) first"
    ):
        pl.umap(pbmc)


def test_multimodal_data(drawn):
    with pytest.raises(TypeError, match=r"`adata`: found MuData, but AnnData is needed\. Pass one modality"):
        pl.umap(MuData({"rna": drawn}))


def test_one_axes_for_several_panels(drawn):
    with pytest.raises(ValueError, match=r"`ax`: one was passed for the 2 panels .* color= with one key"):
        pl.umap(drawn, ax=plt.subplots()[1])
