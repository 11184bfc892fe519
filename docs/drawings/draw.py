"""Draw the figures of concepts.md and how_good.md: `python docs/drawings/draw.py` writes them beside this file."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch

HERE = Path(__file__).parent
BLUE, ORANGE, GREY, RED, PURPLE = "#3f90da", "#ffa90e", "#94a4a2", "#bd1f01", "#832db6"
"""Colours of genes, of phenotypes, of special tokens, of what is asked for, and of what is changed."""

PHENOTYPES = {"sex": "female", "tissue": "blood", "cell_type": "B cell", "disease": "healthy"}
GENES = {"CD74": 9, "CD3D": 0, "CD79A": 7, "NKG7": 0, "MS4A1": 5, "LYZ": 1}
WIDTH, GAP = 1.0, 0.1


def box(ax: Axes, x: float, y: float, text: str, color: str, *, kind: str = "shown", width: float = WIDTH) -> None:
    """One token: ``"shown"`` is filled, ``"asked"`` has a question mark, ``"absent"`` is a dashed outline."""
    style = {
        "shown": {"facecolor": color, "edgecolor": "none", "alpha": 0.45},
        "asked": {"facecolor": "white", "edgecolor": RED, "linewidth": 1.6},
        "absent": {"facecolor": "none", "edgecolor": "#b0b0b0", "linestyle": (0, (3, 2))},
        "changed": {"facecolor": PURPLE, "edgecolor": "none", "alpha": 0.4},
    }[kind]
    ax.add_patch(FancyBboxPatch((x, y), width, 0.62, boxstyle="round,pad=0,rounding_size=0.08", **style))
    shade = {"asked": RED, "absent": "#8a8a8a"}.get(kind, "black")
    ax.text(x + width / 2, y + 0.31, text, ha="center", va="center", fontsize=8, color=shade)


def canvas(width: float, height: float) -> Axes:
    """Axes without frame, a unit of 0.85 inches."""
    ax = plt.subplots(figsize=(0.8 * width, 0.8 * height))[1]
    ax.figure.subplots_adjust(0, 0, 1, 1)
    ax.set(xlim=(0, width), ylim=(0, height))
    ax.axis("off")
    return ax


def sentence() -> None:
    """A cell as a sequence of tokens."""
    tokens = [("CLS", "", GREY, "shown")]
    tokens += [(value, name, ORANGE, "shown") for name, value in PHENOTYPES.items()]
    tokens += [("START", "", GREY, "shown")]
    tokens += [(f"bin {b}" if b else "bin 0", gene, BLUE, "shown" if b else "absent") for gene, b in GENES.items()]
    tokens += [("END", "", GREY, "shown")]
    ax = canvas(len(tokens) * (WIDTH + GAP) + 0.3, 2.25)
    for i, (text, name, color, kind) in enumerate(tokens):
        x = 0.2 + i * (WIDTH + GAP)
        box(ax, x, 0.75, text, color, kind=kind)
        ax.text(x + WIDTH / 2, 1.52, name, ha="center", va="bottom", fontsize=8, color="#555555")
    step = WIDTH + GAP
    for first, n, text in (
        (1, 4, "phenotypes: columns of adata.obs"),
        (6, 6, "genes: the position is the gene, the token is its expression bin"),
    ):
        left, right = 0.2 + first * step, 0.2 + (first + n) * step - GAP
        ax.plot([left, left, right, right], [0.62, 0.52, 0.52, 0.62], color="#888888", linewidth=0.8)
        ax.text((left + right) / 2, 0.42, text, ha="center", va="top", fontsize=8.5)
    ax.text(0.2 + 6 * step, 1.98, "dashed: not expressed, so it is left out", fontsize=8, color="#777777", va="center")
    save("sentence")


def hidden() -> None:
    """What is shown and what is predicted in a training step."""
    names = [*PHENOTYPES, *GENES]
    values = [*PHENOTYPES.values(), *(f"bin {b}" for b in GENES.values())]
    hide = {"cell_type", "disease", "CD79A", "NKG7"}
    step, left = WIDTH + GAP, 2.4
    ax = canvas(left + len(names) * step + 0.2, 3.2)
    rows = (("the cell", 2.1), ("the model sees", 1.2), ("and predicts", 0.3))
    for title, y in rows:
        ax.text(left - 0.2, y + 0.31, title, ha="right", va="center", fontsize=9.5)
    for i, (name, value) in enumerate(zip(names, values, strict=True)):
        x, gene = left + i * step, name in GENES
        color, expressed = BLUE if gene else ORANGE, not gene or GENES[name] > 0
        ax.text(x + WIDTH / 2, 2.82, name, ha="center", va="bottom", fontsize=8, color="#555555")
        box(ax, x, 2.1, value, color, kind="shown" if expressed else "absent")
        if name in hide:
            box(ax, x, 0.3, "?", color, kind="asked")
        elif expressed:
            box(ax, x, 1.2, value, color)
    save("hidden")


def asked() -> None:
    """What each question shows, changes and asks for."""
    rows = [
        ("tl.predict_phenotype", "which cell type?", "--?-", "sss"),
        ("tl.fill_phenotype", "which sex, given the rest?", "?sss", "sss"),
        ("tl.impute", "how much of a gene that was not measured?", "----", "ss?"),
        ("tl.perturb", "what if this gene were silent?", "--?-", "cs?"),
        ("tl.counterfactual", "what if this cell were diseased?", "sssc", "s??"),
        ("tl.generate", "cells of these phenotypes", "ssss", "???"),
    ]
    columns, step, left = [*PHENOTYPES, "gene 1", "gene 2", "gene 3"], WIDTH + GAP, 4.3
    ax = canvas(left + len(columns) * step + 0.45, len(rows) * 0.85 + 1.2)
    top = len(rows) * 0.85 + 0.1
    kinds = {"s": "shown", "?": "asked", "c": "changed", "-": "absent"}
    for j, name in enumerate(columns):
        x = left + j * step + (0.25 if j > 3 else 0)
        ax.text(x + WIDTH / 2, top + 0.42, name, ha="center", va="bottom", fontsize=8, color="#555555")
    for i, (verb, question, phenotypes, genes) in enumerate(rows):
        y = top - (i + 1) * 0.85 + 0.35
        ax.text(0.15, y + 0.44, verb, fontsize=9, family="monospace", va="center")
        ax.text(0.15, y + 0.12, question, fontsize=8, color="#555555", va="center")
        for j, letter in enumerate(phenotypes + genes):
            text = {"s": "shown", "?": "?", "c": "set", "-": ""}[letter]
            x = left + j * step + (0.25 if j > 3 else 0)
            box(ax, x, y, text, ORANGE if j < 4 else BLUE, kind=kinds[letter])
    ax.text(
        left,
        0.16,
        "?  is predicted      set  is changed first      dashed  is hidden and not asked for",
        fontsize=8,
        color="#555555",
    )
    save("asked")


METHODS = {
    "Polygene": (BLUE, "o"),
    "logistic regression": (RED, "s"),
    "logistic regression, balanced": (ORANGE, "D"),
    "kNN on 50 PCs": (PURPLE, "^"),
    "majority": (GREY, "|"),
}


def scores() -> None:
    """Macro-F1 of each method, a row for each phenotype, from the table that the benchmark wrote."""
    lines = (HERE.parents[1] / "benchmarks" / "results" / "accuracy.md").read_text().partition("### Phenotypes")[2]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines.partition("\n###")[0].splitlines()]
    rows = [row for row in rows if len(row) == 8 and row[2] in METHODS]
    names = list(dict.fromkeys(f"{row[0]}, {row[1]}" for row in rows))[::-1]
    ax = plt.subplots(figsize=(7.2, 0.36 * len(names) + 1.2), layout="constrained")[1]
    for method, (color, marker) in METHODS.items():
        found = {f"{row[0]}, {row[1]}": float(row[3]) for row in rows if row[2] == method}
        style = {"color": color, "marker": marker, "linestyle": "none", "markersize": 7, "label": method}
        ax.plot(list(found.values()), [names.index(name) for name in found], **style, zorder=3 + (method == "Polygene"))
    ax.set_yticks(range(len(names)), names, fontsize=9)
    ax.set(xlim=(0, 1), xlabel="macro-F1 on cells of new donors (pbmc68k: of the same donor)")
    ax.grid(axis="y", color="#dddddd", linewidth=0.6)
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.tick_params(axis="y", length=0)
    ax.figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    save("scores")


def save(name: str) -> None:
    """Write the current figure as SVG, the same bytes each time."""
    plt.rcParams["svg.hashsalt"] = name
    plt.savefig(HERE / f"{name}.svg", metadata={"Date": None})
    plt.close()


if __name__ == "__main__":
    for draw in (sentence, hidden, asked, scores):
        draw()
