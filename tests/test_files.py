"""Files and folders take the place of others whole."""

import errno
import os
import tempfile
import time
from pathlib import Path

import pytest

from polygene_scverse import _files
from polygene_scverse._files import check_destination, replace_file, replace_folder, write_bytes


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_replaced_when_it_is_whole(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("old")
    path.chmod(0o640)
    with replace_file(path) as part:
        assert (part.parent, part.suffix) == (tmp_path, ".csv")
        part.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert path.stat().st_mode & 0o777 == 0o640
    assert names(tmp_path) == ["a.csv"]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_after_an_error_the_old_one_is_there(tmp_path, error):
    write_bytes(tmp_path / "a", b"old")

    def fail(part):
        part.write_text("half")
        raise error

    with pytest.raises(error), replace_file(tmp_path / "a") as part:
        fail(part)
    with pytest.raises(error), replace_folder(tmp_path / "a") as part:
        fail(part / "x")
    assert (names(tmp_path), (tmp_path / "a").read_text()) == (["a"], "old")


def test_a_link_is_followed(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "real")
    write_bytes(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "new"


def test_what_is_no_file_is_written_to():
    write_bytes("/dev/null", b"gone")
    assert Path("/dev/null").is_char_device()


@pytest.mark.parametrize("at_once", [True, False])
def test_a_folder_is_replaced(tmp_path, at_once, monkeypatch):
    if not at_once:
        monkeypatch.setattr(_files, "_exchange_at_once", lambda a, b: False)
    for text in ("one", "two"):
        with replace_folder(tmp_path / "a", {"x", "old"}) as part:
            (part / "x").write_text(text)
            if text == "one":
                (part / "old").touch()
        if text == "one":
            (tmp_path / "a" / "mine" / "deep").mkdir(parents=True)
            (tmp_path / "a" / "mine" / "deep" / "note").write_text("kept")
            (tmp_path / "a" / "link").symlink_to("x")
    assert names(tmp_path) == ["a"]
    assert names(tmp_path / "a") == ["link", "mine", "x"]
    assert (tmp_path / "a" / "link").read_text() == "two"
    assert (tmp_path / "a" / "mine" / "deep" / "note").read_text() == "kept"
    with replace_folder(tmp_path / "a"):
        pass
    assert names(tmp_path / "a") == []


def test_parts_that_were_left_long_ago_are_removed(tmp_path):
    old, young, other = ".a.0123abcd.part.csv", ".a.0123abce.part.csv", ".a.mine.part.csv"
    for name in (old, young, other):
        (tmp_path / name).touch()
        if name != young:
            os.utime(tmp_path / name, (time.time() - 2 * _files.STALE,) * 2)
    write_bytes(tmp_path / "a.csv", b"new")
    assert names(tmp_path) == sorted([young, other, "a.csv"])


def test_folders_that_cannot_be_written_to_are_found_before(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("x")
    for folder in (tmp_path, tmp_path / "new", tmp_path / "new" / "deeper", str(tmp_path / "new")):
        check_destination(folder, "save_to")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    for folder in (tmp_path / "file", tmp_path / "file" / "new"):
        with pytest.raises(ValueError, match=r"`save_to`: .*file is a file\. Pass the name of a folder"):
            check_destination(folder, "save_to")
    for folder in (None, 3, b"x"):
        with pytest.raises(TypeError, match="`save_to`: found"):
            check_destination(folder, "save_to")

    def refuse(**kwargs):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(tempfile, "mkdtemp", refuse)
    with pytest.raises(ValueError, match=r"`save_to`: .* cannot be written to \(Read-only file system\)"):
        check_destination(tmp_path, "save_to")
