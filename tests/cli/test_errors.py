import warnings
from pathlib import Path

import numpy as np
import pytest
import typer

from polygene_scverse._validate import check_choice, check_columns
from polygene_scverse.cli._errors import UserError, exits, is_of_user, text_of, with_options
from polygene_scverse.datasets import simulate


def ours():
    check_choice("x", ("a", "b"), "argument")


def a_missing_column():
    check_columns(["celltype"], simulate(20, 20).obs, "phenotypes", lambda obs: ["cell_type"])


def theirs():
    np.zeros(3).reshape(2, 2)


def no_file():
    Path("no/such/file").read_text()


def said():
    raise UserError("mend it")


@pytest.mark.parametrize(
    ("function", "code", "start"),
    [
        (ours, 2, "Error: `argument`: found 'x'"),
        (a_missing_column, 2, "Error: `phenotypes`: ['celltype'] are not columns"),
        (no_file, 2, "Error: [Errno 2]"),
        (said, 2, "Error: mend it"),
        (theirs, 1, "Unexpected ValueError: cannot reshape"),
    ],
    ids=["our check", "our KeyError", "file system", "the command's own", "somebody else's"],
)
def test_codes_and_words(capsys, function, code, start):
    with pytest.raises(typer.Exit, match=str(code)) as end, exits():
        function()
    assert end.value.exit_code == code
    found = capsys.readouterr()
    assert found.err.startswith(start)
    assert ("--debug" in found.err) == (code == 1)
    assert "Traceback" not in found.err + found.out


@pytest.mark.parametrize(
    ("stop", "code", "text"),
    [(KeyboardInterrupt, 130, "Interrupted."), (SystemExit, 143, "Stopped by a signal.")],
    ids=["Ctrl-C", "SIGTERM"],
)
@pytest.mark.parametrize("debug", [False, True], ids=["plain", "debug"])
def test_what_is_stopped_from_outside_is_no_success(capsys, stop, code, text, debug):
    error = stop()
    error.add_note("Go on with --resume.")
    with pytest.raises(typer.Exit, match=str(code)) as end, exits(debug=debug):
        raise error
    assert end.value.exit_code == code
    assert capsys.readouterr().err == f"{text}\nGo on with --resume.\n"


def test_debug_lets_errors_through():
    with pytest.raises(ValueError, match="cannot reshape"), exits(debug=True):
        theirs()


def test_no_error():
    with exits():
        done = True
    assert done


def test_an_exit_is_an_exit():
    with pytest.raises(typer.Exit, match="3"), exits():
        raise typer.Exit(3)


def test_warnings_are_lines(capsys):
    before = warnings.showwarning
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        with exits():
            warnings.warn("look at this", UserWarning, stacklevel=1)
    assert capsys.readouterr().err == "Warning: look at this\n"
    assert warnings.showwarning is before


def test_the_text_of_a_key_error_has_no_quotes():
    assert text_of(KeyError("`x`: is not there")) == "`x`: is not there"
    assert text_of(KeyError()) == ""
    assert not is_of_user(KeyError("x"))  # never raised, so nobody knows where


def test_an_argument_is_called_by_its_option(capsys):
    for text, said in [
        ("`group_key`: no", "--group-key: no"),
        ("`adata`: no", "DATA: no"),
        ("`size`: no", "`size`: no"),
    ]:
        with pytest.raises(typer.Exit), exits(options={"group_key": "--group-key"}):
            raise UserError(text)
        assert capsys.readouterr().err == f"Error: {said}\n"


OPTIONS = {"layer": "--layer", "use_raw": "--use-raw", "n_obs": "--n-obs", "genes": "--only", "folder": "FOLDER"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("`genes`: found 3", "--only: found 3"),
        ("`n_obs`, `depth`: found 3", "--n-obs, `depth`: found 3"),
        ("`adata`: X is empty. Pass layer= with one of ['a'], or use_raw=True.",
         "DATA: X is empty. Pass --layer with one of ['a'], or --use-raw."),
        ("Pass use_raw=False, or set adata.raw.", "Pass --no-use-raw, or set adata.raw."),
        ("Call pgs.tl.train(adata, layer=...) or pass layer='a'.", "Call pgs.tl.train(adata, layer=...) or pass layer='a'."),
        ("`dir_path`: no model", "--output: no model"),
        ("`folder`: no model. Pass folder=.", "FOLDER: no model. Pass folder=."),
        ("Only words: `genes`", "Only words: `genes`"),
    ],
)  # fmt: skip
def test_errors_name_options(text, expected):
    assert with_options(text, OPTIONS) == expected


def test_the_folder_of_a_model_is_the_option_that_names_it():
    assert with_options("`dir_path`: no model", {"model": "--model"}) == "--model: no model"


@pytest.mark.filterwarnings("default:`n_obs`")
def test_warnings_name_options(capsys):
    with exits(options=OPTIONS):
        warnings.warn("`n_obs`: few. Pass use_raw=True.", UserWarning, stacklevel=1)
    assert capsys.readouterr().err == "Warning: --n-obs: few. Pass --use-raw.\n"
