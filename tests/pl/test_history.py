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
            ("NLL of hidden genes", "held out"): "gene_nll_validation",
        },
        {
            ("bulk_labels", "transformer, macro-F1"): "bulk_labels_macro_f1_validation",
            ("bulk_labels", "transformer, accuracy"): "bulk_labels_accuracy_validation",
            ("phase", "transformer, macro-F1"): "phase_macro_f1_validation",
            ("phase", "transformer, accuracy"): "phase_accuracy_validation",
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


def test_final_scores_are_labelled_points(drawn):
    history = drawn.uns["polygene"]["train"]["history"]
    finals = {
        "bulk_labels_macro_f1": 0.8,
        "bulk_labels_accuracy": 0.81,
        "phase_macro_f1": 1.0,
        "phase_accuracy": np.nan,
    }
    for name, value in finals.items():
        history[f"{name}_final"] = np.array([np.nan, np.nan, np.nan, value])
    _, ax, _ = pl.history(drawn, show=False)
    points = [line for line in ax.lines if line.get_linestyle() == "None"]
    assert {tuple(map(float, point.get_xydata()[0])) for point in points} == {(3, 0.8), (3, 0.81), (3, 1.0)}
    assert {point.get_fillstyle() for point in points} == {"full", "none"}
    assert sorted(text.get_text() for text in ax.texts) == ["0.80", "0.81", "1.00"]
    heights = sorted(text.xy[1] for text in ax.texts)
    assert np.diff(heights).min() > 0.05  # labels can be read
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == [
        *("bulk_labels", "phase", " ", " "),  # a column of colours, and one of lines and points
        *("transformer, macro-F1", "transformer, accuracy", "finished model, macro-F1", "finished model, accuracy"),
    ]


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
