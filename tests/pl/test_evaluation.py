import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import same_color

from polygene_scverse import pl
from polygene_scverse.pl._evaluation import COLORS

METHODS = ["Polygene", "kNN", "trees"]
SCORES = ["macro_f1", "accuracy", "ece", "nll", "balanced_accuracy", "macro_f1_10"]


@pytest.fixture
def evaluated(drawn):
    """Two phenotypes, three methods; trees are better in accuracy."""
    rng = np.random.default_rng(0)
    rows = [
        {"phenotype": p, "method": m, "score": s, "value": rng.uniform(0.4, 0.6)}
        for p in ("bulk_labels", "phase")
        for m in METHODS
        for s in SCORES
    ]
    table = pd.DataFrame(rows)
    table = table.assign(low=table["value"] - 0.1, high=table["value"] + 0.1, verdict="not significant")
    table.loc[(table["method"] == "trees") & (table["score"] == "accuracy"), "verdict"] = "worse"
    groups = pd.concat([table.assign(group=g, n_cells=5) for g in ("d1", "d2")])
    stored = {"table": table, "by_group": groups, "notes": [], "group_key": "donor"}
    drawn.uns["polygene"]["evaluate"] = stored
    return drawn


def points(ax):
    """Methods from bottom to top: value, ends of the interval and colour."""
    lines = ax.lines
    dots = [line for line in lines if line.get_marker() == "o"]
    bars = [line for line in lines if line.get_linestyle() == "-" and line.get_marker() == "None"]
    return [(d.get_xdata()[0], *b.get_xdata(), d.get_color()) for d, b in zip(dots, bars, strict=True)]


def test_points_are_the_table(evaluated):
    axes = pl.evaluation(evaluated, show=False)
    assert len(axes) == 8
    table = evaluated.uns["polygene"]["evaluate"]["table"]
    ax = axes[5]  # accuracy of the second phenotype
    assert [t.get_text() for t in axes[4].get_yticklabels()] == METHODS[::-1]
    rows = table[(table["phenotype"] == "phase") & (table["score"] == "accuracy")].set_index("method")
    for method, (value, low, high, color) in zip(METHODS[::-1], points(ax), strict=True):
        assert (value, low, high) == tuple(rows.loc[method, ["value", "low", "high"]])
        kind = {"Polygene": "model", "trees": "worse"}.get(method, "other")
        assert same_color(color, COLORS[kind])


@pytest.mark.parametrize(
    ("verdict", "expected"),
    [
        ("worse", "significantly better than Polygene"),
        ("worse in these groups", "better than Polygene in these few gro"),
    ],
    ids=["many groups", "few groups"],
)
def test_the_legend_says_what_red_means(evaluated, verdict, expected):
    table = evaluated.uns["polygene"]["evaluate"]["table"]
    table["verdict"] = table["verdict"].replace("worse", verdict)
    axes = pl.evaluation(evaluated, show=False)
    (legend,) = axes[0].figure.legends
    assert any(f"a baseline that is {expected}" in text.get_text() for text in legend.get_texts())
    assert any(same_color(color, COLORS["worse"]) for *_, color in points(axes[5]))


def test_titles_and_names(evaluated):
    axes = pl.evaluation(evaluated, show=False)
    assert [ax.get_title() for ax in axes[:2]] == ["macro-F1", "accuracy"]
    assert {ax.get_title() for ax in axes[4:]} == {""}
    assert (axes[0].get_ylabel(), axes[4].get_ylabel()) == ("bulk_labels", "phase")


def test_choice(evaluated):
    axes = pl.evaluation(evaluated, phenotypes="phase", scores=["ece"], show=False)
    assert [ax.get_title() for ax in axes] == ["ECE (lower is better)"]
    assert axes[0].get_ylabel() == "phase"


@pytest.mark.parametrize(("by_group", "key", "n"), [(True, "donor", 6), (False, "donor", 0), (True, "", 0)], ids=str)
def test_marks_of_groups(evaluated, by_group, key, n):
    evaluated.uns["polygene"]["evaluate"]["group_key"] = key
    (ax,) = pl.evaluation(evaluated, phenotypes="phase", scores="nll", by_group=by_group, show=False)
    marks = [x for line in ax.lines if line.get_marker() == "|" for x in line.get_xdata()]
    assert len(marks) == n


def test_names_are_inside_the_figure(evaluated):
    axes = pl.evaluation(evaluated, show=False)
    figure = axes[0].figure
    figure.canvas.draw()
    for ax in axes:
        box = ax.get_tightbbox()
        assert box.x0 >= 0
        assert box.x1 <= figure.bbox.x1


def test_show_and_save(evaluated, tmp_path):
    assert pl.evaluation(evaluated, show=True, save=tmp_path / "evaluation.png") is None
    assert (tmp_path / "evaluation.png").stat().st_size > 5_000
    assert not plt.get_fignums()


@pytest.mark.parametrize(
    ("arguments", "match"),
    [({"phenotypes": "age"}, "`phenotypes`: found 'age'"), ({"scores": "auc"}, "`scores`: found 'auc'")],
    ids=["phenotype", "score"],
)
def test_unknown(evaluated, arguments, match):
    with pytest.raises(ValueError, match=match):
        pl.evaluation(evaluated, show=False, **arguments)


def test_not_evaluated(drawn):
    with pytest.raises(KeyError, match="no evaluation is stored"):
        pl.evaluation(drawn, show=False)
