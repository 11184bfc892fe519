"""The documentation, without building it: links lead somewhere, and the API page has every public module."""

import re
from importlib import import_module
from pathlib import Path

import pytest

import polygene_scverse as pgs

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "benchmarks").glob("*.md")])
LINK = re.compile(r"\]\(([^)\s]+)\)")


def prose(path):
    """A page without its code."""
    return re.sub(r"```.*?```", "", path.read_text(), flags=re.DOTALL)


def anchors(path):
    """Headings as they are linked to."""
    titles = re.findall(r"^#+ (.+)$", prose(path), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    wrong = []
    for link in LINK.findall(prose(page)):
        if link.startswith(("http:", "https:", "mailto:")):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
            wrong.append(link)
    assert not wrong


def test_the_reference_has_every_public_module():
    named = re.findall(r"^ +polygene_scverse\.(\w+)$", (ROOT / "docs" / "reference.md").read_text(), re.MULTILINE)
    assert sorted(named) == sorted(pgs.__all__)


def test_pages_of_the_start_page_exist():
    text = (ROOT / "docs" / "index.md").read_text()
    named = [name for block in re.findall(r"```{toctree}(.*?)```", text, re.DOTALL) for name in block.split("\n")]
    pages = [name for name in named if re.fullmatch(r"[\w./]+", name)]
    assert len(pages) > 10
    assert all((ROOT / "docs" / f"{page}.md").is_file() for page in pages)


def test_faults_of_a_page_in_a_browser(monkeypatch):
    """Without a browser: what the sizes, images and results of the pages are judged by."""
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    faults = import_module("check_browser").faults
    fine = {"page": "a.html", "size": "phone", "title": "A", "letters": 900, "beyond": 0, "broken": [], "results": 0}
    search = fine | {"page": "search.html?q=x"}
    assert faults([fine, search | {"results": 3}]) == []
    wrong = [search, fine | {"beyond": 7}, fine | {"broken": ["b.png"]}, fine | {"letters": 5}]
    ends = ("nothing is found", "7 pixels wider than the window", "b.png does not load", "no title or no text")
    assert [text.endswith(end) for text, end in zip(faults(wrong), ends, strict=True)] == [True] * 4
