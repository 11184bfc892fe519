from pathlib import Path

import matplotlib.pyplot as plt
import pytest

from polygene_scverse.pl._finish import file_of, finish


@pytest.mark.parametrize(
    ("save", "expected"),
    [
        (True, "figs/polygene_umap.pdf"),
        ("_donors.png", "figs/polygene_umap_donors.png"),
        ("_donors", "figs/polygene_umap_donors.pdf"),
        ("_v1.2", "figs/polygene_umap_v1.2.pdf"),
        ("out/a.svg", "out/a.svg"),
        (Path("out") / "a", "out/a.pdf"),
    ],
    ids=["true", "name", "no suffix", "version", "path", "path without suffix"],
)
def test_file_name(settings, save, expected):
    settings.figdir = Path("figs")
    settings.file_format_figs = "pdf"
    assert file_of(save, "umap") == Path(expected)


def test_saved_figure_is_closed(tmp_path):
    _, ax = plt.subplots()
    assert finish(ax, "drawn", "kind", False, tmp_path / "new" / "a.png") == "drawn"
    assert (tmp_path / "new" / "a.png").read_bytes().startswith(b"\x89PNG")
    assert plt.get_fignums() == []


def test_nothing_is_saved_unless_asked(tmp_path, settings):
    settings.figdir = tmp_path
    _, ax = plt.subplots()
    assert finish(ax, "drawn", "kind", False, None) == "drawn"
    assert list(tmp_path.iterdir()) == []
    assert len(plt.get_fignums()) == 1


def test_scanpy_settings_decide(tmp_path, settings, monkeypatch):
    shown = []
    monkeypatch.setattr(plt, "show", lambda: shown.append(True))
    settings.figdir = tmp_path
    settings.file_format_figs = "svg"
    _, ax = plt.subplots()
    for automatic in (True, False):
        settings.autoshow = automatic
        settings.autosave = automatic
        assert finish(ax, "drawn", f"kind{automatic}", None, None) == (None if automatic else "drawn")
    assert shown == [True]
    assert [file.name for file in tmp_path.iterdir()] == ["polygene_kindTrue.svg"]


def test_axes_of_a_subfigure(tmp_path):
    left, _ = plt.figure().subfigures(1, 2)
    finish(left.subplots(), None, "kind", False, tmp_path / "a.png")
    assert (tmp_path / "a.png").is_file()
