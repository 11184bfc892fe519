"""Sphinx configuration. `nox -s docs` builds the site; the source folder is the root of the repository.

So links between pages, notebooks and benchmark results are the same on the site and in the repository.
"""

from __future__ import annotations

import re
import warnings
from importlib import import_module
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.ext.napoleon.docstring import NumpyDocstring
from sphinx.transforms import SphinxTransform

HERE = Path(__file__).parent
warnings.filterwarnings("ignore", message=".*set_application")  # of sphinx-autodoc-typehints, a line per function

project = "polygene-scverse"
author = "The polygene-scverse developers"
copyright = author
version = release = version_of("polygene-scverse")

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_autodoc_typehints",
    "sphinx_copybutton",
    "sphinx_design",
]
root_doc = "docs/index"
include_patterns = ["docs/**.md", "docs/**.rst", "tutorials/*.ipynb", "benchmarks/**.md"]
include_patterns += ["CHANGELOG.md", "CONTRIBUTING.md"]
exclude_patterns = [".*", "**/.ipynb_checkpoints", "build", "src", "tests", "scripts", "docs/_*"]
templates_path = [str(HERE / "_templates")]  # a relative one would be looked for in two folders
suppress_warnings = ["mystnb.unknown_mime_type", "myst.header"]  # results of benchmarks begin at deeper levels

nb_execution_mode = "off"
nb_merge_streams = True
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

autosummary_generate = True
autosummary_ignore_module_all = False
autodoc_member_order = "bysource"
autodoc_typehints = "description"
napoleon_google_docstring = False
napoleon_use_rtype = False
typehints_defaults = None
always_use_bars_union = True
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

intersphinx_mapping: dict[str, tuple[str, str | None]] = {}  # nothing is fetched while the site is built

html_theme = "sphinx_book_theme"
html_title = project
html_static_path = ["_static"]
html_css_files = ["custom.css"]
html_theme_options = {
    "use_sidenotes": False,
    "show_navbar_depth": 1,
    "home_page_in_toc": True,
}

ROOMS = ("pp", "tl", "get", "pl", "metrics", "datasets", "model", "module")


def _returns_as_text(self: NumpyDocstring, preprocess_types: bool = False) -> list[tuple[str, str, list[str]]]:
    """A "Returns" section is prose here: the type stands in the signature."""
    return [("", "", self._dedent(self._consume_to_next_section()))]


NumpyDocstring._consume_returns_section = _returns_as_text  # type: ignore[method-assign]


def _objects() -> dict[str, str]:
    """Full name of each public object by the name it has in the text, such as ``pgs.tl.train``."""
    found = {}
    for room in ROOMS:
        module = import_module(f"polygene_scverse.{room}")
        found |= {f"pgs.{room}.{name}": f"polygene_scverse.{room}.{name}" for name in module.__all__}
    model = found["pgs.model.Polygene"]
    methods = [name for name in dir(import_module("polygene_scverse.model").Polygene) if not name.startswith("_")]
    return found | {f"Polygene.{name}": f"{model}.{name}" for name in methods}


class LinkNames(SphinxTransform):
    """Link names in code, such as `pgs.tl.train`, to their page of the API."""

    default_priority = 400

    def apply(self, **kwargs: Any) -> None:
        """Put a reference around each."""
        objects = _objects()
        for literal in list(self.document.findall(nodes.literal)):
            name = re.match(r"[\w.]+", literal.astext())
            if name is None or name[0] not in objects or isinstance(literal.parent, (nodes.reference, pending_xref)):
                continue
            link = pending_xref(
                "", refdomain="py", reftype="obj", reftarget=objects[name[0]], refdoc=self.env.docname, refwarn=False
            )
            literal.replace_self(link)
            link += literal


def _complete(app: Sphinx, docname: str, source: list[str]) -> None:
    """List pages that no table of contents names on the start page, and give the results of benchmarks a title."""
    if docname == "docs/index":
        others = sorted(path.stem for path in HERE.glob("*.md") if not re.search(rf"^{path.stem}$", source[0], re.M))
        source[0] = source[0].replace("{{ other_pages }}", "\n".join(name for name in others if name != "index"))
    elif docname.startswith("benchmarks/results/"):
        source[0] = f"# {docname.rpartition('/')[2]}\n\n{source[0]}"


def _redirect(app: Sphinx, exception: Exception | None) -> None:
    """A page at the root that leads to the start page."""
    if exception is None and app.builder.format == "html":
        page = '<!DOCTYPE html><meta charset="utf-8"><title>polygene-scverse</title>'
        page += '<meta http-equiv="refresh" content="0; url=docs/index.html"><a href="docs/index.html">Start</a>'
        (Path(app.outdir) / "index.html").write_text(page)


def setup(app: Sphinx) -> None:
    """Link names of functions, complete pages, and write the page at the root."""
    app.add_transform(LinkNames)
    app.connect("source-read", _complete)
    app.connect("build-finished", _redirect)
