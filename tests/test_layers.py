"""The walls of the house: who imports whom, and that tests mirror the source."""

import ast
import functools
import importlib
import inspect
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import polygene_scverse

PACKAGE = "polygene_scverse"
SOURCE = Path(polygene_scverse.__file__).parent
TESTS = Path(__file__).parent
FILES = sorted(SOURCE.rglob("*.py"))
IDS = [str(path.relative_to(SOURCE)) for path in FILES]

LAYER_0 = {"_constants", "_layout", "_validate", "_threads", "_quiet", "_files", "_progress", "_compat"}
ARROWS = {
    "_constants": set(),
    "_layout": set(),
    "_validate": {"_constants"},
    "_threads": set(),
    "_quiet": set(),
    "_files": set(),
    "_progress": set(),
    "_compat": {"_constants"},
    "data": LAYER_0 - {"_compat"},
    "module": {"_constants", "_layout"},
    "metrics": set(),
    "fit": {"metrics", "_constants", "_validate"},
    "engine": {"module", "data", "_constants", "_layout", "_progress", "_validate"},
    "abilities": {"engine", "fit", "data", "metrics", "_constants", "_layout", "_progress", "_validate"},
    "model": {"abilities", "engine", "fit", "module", "data", *LAYER_0},
    "evaluation": {"model", "fit", "data", "metrics", *LAYER_0},
    "datasets": {"_constants", "_validate"},
    "pp": {"data", *LAYER_0} - {"_compat"},  # that one imports torch
    "get": {"metrics", "_constants", "_validate"},
    "pl": {"get", "_constants", "_files", "_validate"},
    "tl": {"evaluation", "model", "get", "pp", "metrics", *LAYER_0},
    "cli": {"get", "tl", "pl", "model", "data", *LAYER_0} - {"_compat"},
    "__init__": {"datasets", "get", "metrics", "model", "module", "pl", "pp", "tl"},
}
"""Which rooms a room may import, besides itself."""

HEAVY = {
    *{"torch", "lightning", "scvi", "torchmetrics", "safetensors", "transformers"},
    *{"anndata", "mudata", "scanpy", "h5py", "sklearn", "matplotlib", "pooch", "requests"},
}
HEAVY_OF = {
    "_constants": set(),
    "_layout": set(),
    "_validate": {"anndata"},
    "_threads": set(),
    "_quiet": set(),
    "_files": set(),
    "_progress": set(),
    "_compat": {"torch", "lightning", "scvi"},
    "data": {"torch", "lightning", "scvi", "anndata", "mudata", "scanpy", "h5py"},
    "module": {"torch", "scvi"},
    "metrics": {"sklearn"},
    "fit": {"sklearn"},
    "engine": {"torch"},
    "abilities": {"torch", "anndata"},
    "evaluation": {"anndata", "sklearn", "scvi"},
    "datasets": {"anndata", "scanpy", "pooch", "requests"},
    "model": {"torch", "lightning", "scvi", "torchmetrics", "safetensors", "sklearn", "anndata", "mudata", "h5py"},
    "pp": {"anndata", "mudata"},
    "get": {"anndata", "mudata"},
    "pl": {"anndata", "mudata", "matplotlib", "scanpy"},
    "tl": {"anndata", "mudata", "scanpy", "sklearn"},
    "cli": {"anndata", "h5py", "lightning", "matplotlib", "torch"},
    "__init__": set(),
}
"""Which of the heavy packages a room may import."""

TORCH_IN_DATA = {"feed/_loader", "read/_fields", "feed/_steps", "shards/_loader"}
TESTS_OF_THE_WHOLE = {
    *{"test_api", "test_defects", "test_docs", "test_examples", "test_hostile_input", "test_layers", "test_migration"},
    *{"test_benchmarks", "test_gpu"},
}


def room_of(path):
    """The room, or layer-0 file, that a source file belongs to."""
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imports_of(path):
    """Full names of all that a file imports, wherever in the file."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def roots(names):
    return {name.split(".")[0] for name in names}


def neighbours(path):
    """Rooms of ours that a file imports from."""
    parts = (name.split(".") for name in imports_of(path))
    return {part[1] for part in parts if part[0] == PACKAGE and len(part) > 1}


def classes():
    """Every class of the package, with the tree of its source."""
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                name = ".".join((PACKAGE, *path.relative_to(SOURCE).with_suffix("").parts)).removesuffix(".__init__")
                found = getattr(importlib.import_module(name), node.name, None)
                if found is not None:
                    yield pytest.param(found, node, id=node.name)


def names_after(tree, owners, context):
    """Attributes that are read from, or written to, ``self`` or ``cls``, where that is the first argument."""
    methods = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))
    with_owner = [method for method in methods if method.args.args and method.args.args[0].arg in owners]
    for method, node in ((m, node) for m in with_owner for node in ast.walk(m)):
        owner = getattr(node, "value", None)
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, context) and isinstance(owner, ast.Name):
            yield from [node.attr] * (owner.id == method.args.args[0].arg)


@functools.cache
def names_of(cls):
    """Attributes that a class declares, or that its methods set."""
    names = set(getattr(cls, "__annotations__", {}))
    try:
        return names | set(names_after(ast.parse(textwrap.dedent(inspect.getsource(cls))), ("self", "cls"), ast.Store))
    except (OSError, TypeError):  # built in, or made at run time
        return names


@pytest.mark.parametrize(("cls", "tree"), classes())
def test_no_class_calls_a_stranger_through_self(cls, tree):
    """What a class reads from ``self`` is its own or its parents': a mixin that leans on a sibling is a hidden arrow."""
    own = set(dir(cls)).union(*(names_of(parent) for parent in cls.__mro__[:-1]))
    assert set(names_after(tree, ("self", "cls"), ast.Load)) - own == set()


def test_the_model_has_two_mixins_at_most():
    ours = [
        parent.__name__ for parent in polygene_scverse.model.Polygene.__mro__ if parent.__module__.startswith(PACKAGE)
    ]
    assert ours == ["Polygene", "SavingMixin", "SetupMixin"]


def test_every_room_has_its_arrows():
    assert {room_of(path) for path in FILES} == set(ARROWS) == set(HEAVY_OF)


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_imports_follow_the_arrows(path):
    room = room_of(path)
    assert neighbours(path) - {room} <= ARROWS[room]


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_heavy_packages_stay_in_their_rooms(path):
    assert roots(imports_of(path)) & HEAVY <= HEAVY_OF[room_of(path)]


def test_only_model_imports_the_models_of_scvi():
    users = {room_of(p) for p in FILES for name in imports_of(p) if name.startswith(("scvi.model", "scvi.train"))}
    assert users - {"_compat"} == {"model", "evaluation"}


def test_private_names_of_scvi_are_not_imported():
    private = {
        (room_of(path), name)
        for path in FILES
        for name in imports_of(path)
        if name.startswith("scvi.") and any(part.startswith("_") for part in name.split("."))
    }
    assert {room for room, _ in private} <= {"_compat"}


def test_most_of_data_is_numpy():
    files = [path for path in FILES if room_of(path) == "data"]
    heavy = {
        f"{path.parent.name}/{path.stem}" for path in files if roots(imports_of(path)) & {"torch", "lightning", "scvi"}
    }
    assert heavy == TORCH_IN_DATA


def test_no_file_imports_itself_in_a_circle():
    graph, of_name = {}, {_dotted(path): path for path in FILES}
    for path in FILES:
        names = {name.removeprefix(f"{PACKAGE}.") for name in imports_of(path) if name.startswith(f"{PACKAGE}.")}
        names |= {name.rpartition(".")[0] for name in names}  # the last part may be something inside a file
        graph[path] = {of_name[name] for name in names & set(of_name)} - {path, of_name["__init__"]}
    assert sum(map(len, graph.values())) > 2 * len(FILES)
    done, open_ = set(), []

    def visit(path):
        assert path not in open_, " -> ".join(str(p.relative_to(SOURCE)) for p in [*open_, path])
        if path not in done:
            open_.append(path)
            for other in graph[path]:
                visit(other)
            done.add(open_.pop())

    for path in FILES:
        visit(path)


def _dotted(path):
    """Name of a file as it is imported, without the package."""
    return ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")


LIGHT = {
    "metrics": ("torch", "scvi", "lightning", "anndata"),
    "get": ("torch", "scvi", "lightning"),
    "pp": ("torch", "scvi", "lightning"),
    "datasets": ("torch", "scvi", "lightning"),
    "pl": ("torch", "scvi", "lightning"),
    "cli": ("torch", "scvi", "lightning"),
}
IMPORT_ALONE = """
import importlib, sys, types
package = types.ModuleType("polygene_scverse")
package.__path__ = [sys.argv[1]]  # its __init__ imports every room, so it is left out
sys.modules["polygene_scverse"] = package
for argument in sys.argv[2:]:
    room, *heavy = argument.split(",")
    importlib.import_module(f"polygene_scverse.{room}")
    found = [name for name in heavy if name in sys.modules]
    assert not found, f"{room} imports {found}"
"""


def test_light_rooms_import_nothing_heavy_even_by_way_of_others():
    arguments = [",".join([room, *heavy]) for room, heavy in LIGHT.items()]
    command = [sys.executable, "-W", "ignore", "-c", IMPORT_ALONE, str(SOURCE), *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    "path", [p for p in FILES if p.stem != "__init__"], ids=[i for i in IDS if "__init__" not in i]
)
def test_every_file_has_its_tests(path):
    folder = TESTS / path.relative_to(SOURCE).parent
    assert (folder / f"test{path.stem if path.stem.startswith('_') else '_' + path.stem}.py").is_file()


def test_every_test_has_its_file():
    """``test_masking_chances.py`` belongs to ``_masking.py`` too."""
    rooms = {room for room in ARROWS if (SOURCE / room).is_dir()}
    tests = [path for path in TESTS.rglob("test_*.py") if path.stem not in TESTS_OF_THE_WHOLE]
    lost = []
    for path in tests:
        folder = path.relative_to(TESTS).parent
        if folder.parts and folder.parts[0] not in rooms:
            continue
        stems = {source.stem for source in (SOURCE / folder).glob("*.py")}
        if not any(path.stem == f"test{stem}" or path.stem.startswith(f"test{stem}_") for stem in stems):
            lost.append(str(path.relative_to(TESTS)))
    assert not lost
