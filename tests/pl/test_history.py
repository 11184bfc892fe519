import numpy as np
import pytest

from polygene_scverse import pl


def lines(ax):
    """What is drawn, by colour and dash as the legend names them."""
    handles = {
        text.get_text(): h for text, h in zip(ax.get_legend().get_texts(), ax.get_legend().legend_handles, strict=True)
    }
    grey = {h.get_linestyle(): name for name, h in handles.items() if h.get_color() == "grey"}
    colored = {h.get_color(): name for name, h in handles.items() if h.get_color() != "grey"}
    return {(colored[line.get_color()], grey.get(line.get_linestyle(), "")): line.get_ydata() for line in ax.lines}


def test_each_curve_is_named_by_its_legend(drawn):
    history = drawn.uns["polygene"]["train"]["history"]
    expected = [
        {
            ("total", "training"): "train_loss",
            ("total", "held out"): "validation_loss",
            ("genes", "training"): "gene_loss_train",
            ("genes", "held out"): "gene_loss_validation",
            ("phenotypes", "training"): "phenotype_loss_train",
            ("phenotypes", "held out"): "phenotype_loss_validation",
        },
        {
            ("bulk_labels", "macro-F1"): "bulk_labels_macro_f1_validation",
            ("bulk_labels", "accuracy"): "bulk_labels_accuracy_validation",
            ("phase", "macro-F1"): "phase_macro_f1_validation",
            ("phase", "accuracy"): "phase_accuracy_validation",
        },
        {
            ("all genes", ""): "gene_accuracy_validation",
            ("expressed genes", ""): "gene_accuracy_expressed_validation",
        },
    ]
    axes = pl.history(drawn, show=False)
    assert [ax.get_title() for ax in axes] == ["loss", "held-out phenotypes", "held-out gene bins"]
    for ax, names in zip(axes, expected, strict=True):
        curves = lines(ax)
        assert set(curves) == set(names)
        for key, name in names.items():
            np.testing.assert_array_equal(curves[key], history[name])


def test_without_held_out_cells_there_are_only_losses(drawn):
    history = drawn.uns["polygene"]["train"]["history"]
    drawn.uns["polygene"]["train"]["history"] = {k: v for k, v in history.items() if "validation" not in k}
    (ax,) = pl.history(drawn, show=False)
    assert ax.get_title() == "loss"
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["total", "genes", "phenotypes"]


def test_one_epoch_is_a_point(drawn):
    drawn.uns["polygene"]["train"]["history"] = {"train_loss": [1.0]}
    (ax,) = pl.history(drawn, show=False)
    assert ax.lines[0].get_marker() == "o"


def test_legend_is_under_the_axis_label(drawn):
    axes = pl.history(drawn, figsize=(9, 3), show=False)
    axes[0].figure.canvas.draw()
    for ax in axes:
        assert ax.get_legend().get_window_extent().y1 <= ax.xaxis.label.get_window_extent().y0
        assert ax.get_legend().get_window_extent().y0 >= 0
    assert axes[0].figure.get_size_inches().tolist() == [9, 3]


def test_show_and_save(drawn, tmp_path):
    assert pl.history(drawn, show=True, save=tmp_path / "history.png") is None
    assert (tmp_path / "history.png").stat().st_size > 10_000


def test_no_training(pbmc):
    with pytest.raises(KeyError, match=r"Call pgs.tl.train\(adata\) first"):
        pl.history(pbmc)
