"""Write the notebooks from their scripts and execute them.

A script ``NN_name.py`` next to this file is a notebook in text: ``# %% [markdown]`` starts a text cell, ``# %%`` a code
cell.
"""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).parent


def read_script(path: Path) -> nbformat.NotebookNode:
    """Cells of a script."""
    cells = []
    for part in path.read_text().split("\n# %%")[1:]:
        kind, _, body = part.partition("\n")
        body = body.strip("\n")
        if "[markdown]" in kind:
            text = "\n".join(line[2:] if line.startswith("# ") else line[1:] for line in body.splitlines())
            cells.append(nbformat.v4.new_markdown_cell(text))
        else:
            cells.append(nbformat.v4.new_code_cell(body))
    for i, cell in enumerate(cells):
        cell["id"] = f"cell-{i}"
    return nbformat.v4.new_notebook(cells=cells)


def hide_paths(notebook: nbformat.NotebookNode) -> None:
    """Take the folders of this machine, and the numbers of its processes, out of what was printed."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if "text" in output:
                for folder in (HERE.parent, tempfile.gettempdir()):
                    output["text"] = output["text"].replace(f"{folder}/", "")
                output["text"] = re.sub(r"ipykernel_\d+/\d+\.py", "notebook", output["text"])
                if "site-packages" in output["text"] or str(Path.home()) in output["text"]:
                    raise ValueError(f"an output holds a path of this machine: {output['text']}")


def drop_bars(notebook: nbformat.NotebookNode) -> None:
    """Remove progress bars: widgets, and the empty outputs that they leave."""
    for cell in notebook.cells:
        for output in list(cell.get("outputs", [])):
            data = output.get("data")
            if data is not None and ("application/vnd.jupyter.widget-view+json" in data or not data["text/plain"]):
                cell["outputs"].remove(output)
    notebook["metadata"].pop("widgets", None)


def main() -> None:
    """Execute the notebooks named on the command line, or all."""
    wanted = sys.argv[1:]
    for script in sorted(HERE.glob("[0-9][0-9]_*.py")):
        if wanted and script.stem not in wanted:
            continue
        notebook = read_script(script)
        NotebookClient(
            notebook,
            timeout=1200,
            kernel_name="python3",
            record_timing=False,
            resources={"metadata": {"path": str(HERE)}},
        ).execute()
        hide_paths(notebook)
        drop_bars(notebook)
        nbformat.write(notebook, script.with_suffix(".ipynb"))
        print(f"executed {script.stem}")


if __name__ == "__main__":
    main()
