"""Vocabulary and gene files of the original Polygene.

References
----------
https://github.com/roholazandie/polygene; Khodaee, Zandie and Edelman, "Multimodal learning for mapping
genotype-phenotype dynamics", Nature Computational Science 2025.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import h5py
from anndata.io import read_elem

from polygene_scverse._constants import RANK
from polygene_scverse._layout import TokenLayout
from polygene_scverse._validate import shorten
from polygene_scverse.data.read._ranking import genes_by_rank

VOCABULARY_FILE = "vocab.txt"
GENES_FILE = "genes.txt"
CATEGORY_FILES = {
    "sex": "sex_types.txt",
    "tissue": "tissue_types.txt",
    "cell_type": "cell_types.txt",
    "age": "age_types.txt",
    "disease": "disease_types.txt",
}
"""File with the categories of each phenotype, in the order of the slots."""

ORIGINAL_COLUMNS = {
    "sex": "sex",
    "tissue": "tissue",
    "cell_type": "cell_type",
    "age": "development_stage",
    "disease": "disease",
}
"""Obs column from which the original reads each phenotype, in the order of the slots."""


def read_vocabulary(folder: str | Path) -> tuple[list[str], dict[str, list[str]]]:
    """Read the vocabulary folder of the original, for :meth:`~polygene_scverse._layout.TokenLayout.from_vocabulary`.

    Parameters
    ----------
    folder
        Folder with ``vocab.txt`` and one list of categories per phenotype.

    Returns
    -------
    The tokens in the order of their ids, without bins; and the categories of each phenotype, in the order of its slots:
    sex, tissue, cell_type, age, disease.

    Raises
    ------
    FileNotFoundError
        If a file does not exist.
    ValueError
        If a file is empty, or has a repeated line.
    """
    folder = Path(folder)
    absent = [name for name in (VOCABULARY_FILE, *CATEGORY_FILES.values()) if not (folder / name).is_file()]
    if absent:
        raise FileNotFoundError(
            f"`folder`: {absent} not in {folder}. Pass the vocabulary folder of the original Polygene, which holds "
            f"{VOCABULARY_FILE} and {list(CATEGORY_FILES.values())}."
        )
    words = _read_lines(folder / VOCABULARY_FILE)
    return words, {name: _read_lines(folder / file) for name, file in CATEGORY_FILES.items()}


def read_words(folder: str | Path) -> list[str]:
    """Read only ``vocab.txt``: the tokens in the order of their ids, without bins.

    Raises
    ------
    FileNotFoundError
        If it does not exist.
    ValueError
        If it is empty, or has a repeated token.
    """
    path = Path(folder) / VOCABULARY_FILE
    if not path.is_file():
        raise FileNotFoundError(
            f"`vocabulary`: there is no {VOCABULARY_FILE} in {folder}. Pass the folder that holds it; to_original() "
            "writes it to the folder of the checkpoint."
        )
    return _read_lines(path)


def _read_lines(path: Path) -> list[str]:
    lines = [line.strip() for line in path.read_text(encoding="utf-8").strip().splitlines()]
    if not lines or len(set(lines)) != len(lines):
        raise ValueError(
            f"`folder`: {path} {'holds a line twice' if lines else 'is empty'}, but each line is one token of "
            "the vocabulary. Pass the original's files unchanged."
        )
    return lines


def write_vocabulary(layout: TokenLayout, folder: str | Path) -> None:
    """Write ``vocab.txt`` without bins and, if the phenotypes are those of the original, their lists of categories.

    Parameters
    ----------
    layout
        Token layout with slots and vocabulary.
    folder
        Folder to write into.
    """
    write_lines(Path(folder) / VOCABULARY_FILE, layout.vocabulary[: layout.first_bin_id])
    if layout.phenotype_names == tuple(CATEGORY_FILES):
        for slot in layout.phenotypes:
            write_lines(Path(folder) / CATEGORY_FILES[slot.name], slot.categories)


def read_genes(genes: str | Path | Sequence[str], n_genes: int) -> list[str]:
    """Read the first genes of a list.

    Parameters
    ----------
    genes
        Names, most variable first; a text file with one name per line; or an h5ad file, of which only
        ``var["highly_variable_rank"]`` is read.
    n_genes
        Number of genes.

    Raises
    ------
    FileNotFoundError
        If the file does not exist.
    KeyError
        If an h5ad file has no ranks.
    ValueError
        If there are fewer genes, if two have the same rank, or if the file has another format.
    """
    names = _genes_of_file(Path(genes), n_genes) if isinstance(genes, (str, Path)) else [str(gene) for gene in genes]
    if len(names) < n_genes:
        raise ValueError(
            f"`genes`: found {len(names)}, {shorten(names, 3)}, but the checkpoint has {n_genes} genes. Pass all of "
            "them, most variable first."
        )
    return names[:n_genes]


def _genes_of_file(path: Path, n_genes: int) -> list[str]:
    if not path.is_file():
        raise FileNotFoundError(
            f"`genes`: there is no file {path}. Pass an h5ad file with var[{RANK!r}], a text file with a gene on each "
            "line, or a list."
        )
    if h5py.is_hdf5(path):
        with h5py.File(path) as file:
            var = read_elem(file["var"])
        if RANK not in var:
            raise KeyError(
                f"`genes`: var[{RANK!r}] is not among the columns {shorten(var.columns)} of {path}. Pass a file that "
                "the original was trained on, or the genes in order."
            )
        return genes_by_rank(var[RANK], n_genes)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"`genes`: {path} is neither an h5ad file nor text. Pass one of them, or a list.") from error
    return [line.strip() for line in lines if line.strip()]


def write_lines(path: Path, lines: Sequence[str]) -> None:
    """Write a text file with one item per line."""
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
