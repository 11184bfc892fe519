"""API conventions: first `adata`, at most one more by position, everything documented, listed and in docs/api.md."""

import importlib
import inspect
import re
from pathlib import Path

import pytest

import polygene_scverse as pgs

ROOMS = ("pp", "tl", "pl", "get", "datasets")
LIST = (Path(__file__).parents[1] / "docs" / "api.md").read_text()
FIRST = {"datasets": "a data set is made, not taken", "tl.generate": "cells are made of what is given"}
"""Rooms and functions that need not begin with `adata`, and why."""


def public(room):
    module = importlib.import_module(f"polygene_scverse.{room}")
    return {f"{room}.{name}": getattr(module, name) for name in module.__all__}


FUNCTIONS = {name: function for room in ROOMS for name, function in public(room).items()}
METHODS = {
    f"Polygene.{name}": function
    for name, function in inspect.getmembers(pgs.model.Polygene, inspect.isroutine)
    if not name.startswith("_") and (function.__module__ or "").startswith("polygene_scverse")
}
DOCUMENTED = FUNCTIONS | public("metrics") | METHODS

each_function = pytest.mark.parametrize("name", FUNCTIONS)
each_documented = pytest.mark.parametrize("name", DOCUMENTED)


def parameters(function):
    found = inspect.signature(function).parameters
    return {name: p for name, p in found.items() if name not in ("self", "cls")}


def sections(function):
    """Sections of a numpydoc docstring by title; what comes before the first is under ""."""
    lines = inspect.cleandoc(function.__doc__ or "").splitlines()
    found, title = {"": []}, ""
    for line, below in zip(lines, [*lines[1:], ""], strict=True):
        if below and set(below) == {"-"}:
            title = line.strip()
            found[title] = []
        elif not (line and set(line) == {"-"}):
            found[title].append(line)
    return found


def documented_parameters(function):
    """Parameter names of the docstring, in order, and the text of each."""
    found, names = {}, []
    for line in sections(function).get("Parameters", []):
        if line and not line.startswith(" "):
            names = [name.strip().lstrip("*") for name in line.partition(":")[0].split(",")]
            found |= dict.fromkeys(names, "")
        else:
            for name in names:
                found[name] += line.strip()
    return found


def test_rooms_are_listed():
    assert set(pgs.__all__) >= set(ROOMS)
    assert FUNCTIONS


@pytest.mark.parametrize("room", [*ROOMS, "metrics", "model", "module"])
def test_all_is_a_sorted_table_of_what_is_public(room):
    module = importlib.import_module(f"polygene_scverse.{room}")
    inside = {
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and not inspect.ismodule(value) and name != "annotations"
    }
    assert set(module.__all__) == inside
    assert list(module.__all__) == sorted(module.__all__, key=lambda name: (not name.isupper(), name))
    assert module.__doc__


@each_function
def test_file_is_named_after_the_function(name):
    room, _, function = name.partition(".")
    assert FUNCTIONS[name].__module__ == f"polygene_scverse.{room}._{function}"


@each_function
def test_adata_comes_first(name):
    room = name.partition(".")[0]
    first = next(iter(parameters(FUNCTIONS[name])), None)
    assert first == "adata" or {room, name} & set(FIRST)


@each_function
def test_at_most_one_more_comes_by_position(name):
    kinds = [p.kind for p in parameters(FUNCTIONS[name]).values()]
    assert kinds.count(inspect.Parameter.POSITIONAL_OR_KEYWORD) <= 2
    assert inspect.Parameter.VAR_POSITIONAL not in kinds
    assert inspect.Parameter.POSITIONAL_ONLY not in kinds


COMMON = {"model": None, "gene_symbols": None, "gene_ids": None, "mod": None, "seed": 0, "batch_size": 128}
"""Last arguments of functions that take query cells, in this order, with their defaults."""
OF_QUERY = {
    name: parameters(function)
    for name, function in FUNCTIONS.items()
    if name.startswith("tl.") and {"adata", "batch_size"} <= set(parameters(function))
}
OF_CELLS = {
    name: parameters(function)
    for name, function in METHODS.items()
    if {"adata", "batch_size"} <= set(parameters(function))
}


@pytest.mark.parametrize("name", OF_QUERY)
def test_functions_of_query_cells_end_with_the_same_arguments(name):
    found = OF_QUERY[name]
    names = [key for key in COMMON if key in found]
    assert list(found)[-len(names) :] == names
    assert set(COMMON) - set(names) <= {"seed"}
    assert {key: found[key].default for key in names} == {key: COMMON[key] for key in names}
    assert all(found[key].kind == inspect.Parameter.KEYWORD_ONLY for key in names)


@pytest.mark.parametrize("name", OF_CELLS)
def test_methods_of_cells_end_with_the_same_arguments(name):
    found = OF_CELLS[name]
    assert list(found)[-3:] == ["gene_symbols", "gene_ids", "batch_size"]
    assert {"adata", "indices"} <= set(found)
    for key, default in {"adata": None, "indices": None, "seed": 0, "given": None, "batch_size": 128}.items():
        assert key not in found or found[key].default == default


@pytest.mark.parametrize("name", [*public("get"), *public("pl")])
def test_results_of_something_else_are_refused(name):
    with pytest.raises(TypeError, match="`adata`: found str, but AnnData"):
        FUNCTIONS[name]("cells.h5ad")


def test_both_lists_are_of_many():
    assert len(OF_QUERY) > 14
    assert len(OF_CELLS) > 11


@each_documented
def test_every_parameter_is_documented(name):
    documented = documented_parameters(DOCUMENTED[name])
    assert list(documented) == list(parameters(DOCUMENTED[name]))
    assert all(documented.values()), [key for key, text in documented.items() if not text]


@each_documented
def test_every_parameter_and_result_has_a_type(name):
    signature = inspect.signature(DOCUMENTED[name])
    assert signature.return_annotation is not inspect.Signature.empty
    bare = [key for key, p in parameters(DOCUMENTED[name]).items() if p.annotation is inspect.Parameter.empty]
    assert not bare


@each_documented
def test_the_docstring_says_what_it_does(name):
    summary = sections(DOCUMENTED[name])[""][0]
    assert re.fullmatch(r"[A-Z0-9].*[.:]", summary), summary


@each_function
def test_the_docstring_says_what_comes_back(name):
    assert "Returns" in sections(FUNCTIONS[name])


@each_function
def test_the_list_names_it(name):
    assert f"| `pgs.{name}` |" in LIST


def test_the_list_names_nothing_else():
    named = set(re.findall(r"`pgs\.((?:pp|tl|pl|get|datasets)\.\w+)`", LIST))
    assert named == set(FUNCTIONS)


def test_the_list_names_the_methods_of_the_model():
    (row,) = [line for line in LIST.splitlines() if line.startswith("| `pgs.model.Polygene`")]
    for method in ("setup_anndata", "setup_mudata", "train", "predict_phenotype", "get_latent_representation"):
        assert f"`{method}`" in row
    for word in re.findall(r"`(\w+)`", row):
        assert hasattr(pgs.model.Polygene, word) or word == "history_", word
