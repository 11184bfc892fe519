"""What the training cells tell the network beside their tokens."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from polygene_scverse.data._tokens import Cells


def category_counts(codes: NDArray[np.integer], n_categories: Sequence[int]) -> NDArray[np.float32]:
    """Cells of each category of each phenotype, one phenotype after the other; shape (sum of n_categories,).

    Parameters
    ----------
    codes
        Category codes, -1 where unknown; shape (n_cells, n_phenotypes).
    n_categories
        Number of categories of each phenotype.
    """
    counts = [np.bincount(c[c >= 0], minlength=n) for c, n in zip(codes.T, n_categories, strict=True)]
    return np.concatenate(counts).astype(np.float32)


def category_scale(counts: NDArray[np.floating], n_categories: Sequence[int]) -> NDArray[np.float32]:
    """Factor of each category in the linear path: the square root of the mean count of its phenotype over its own.

    A step of plain descent moves the weights of a category as far as it has cells; with this factor, squared by the
    chain rule, rare categories move as far as frequent ones. The loss, and so the probabilities, stay unweighted.

    Parameters
    ----------
    counts
        Training cells of each category of each phenotype, one phenotype after the other; shape (sum of n_categories,).
    n_categories
        Number of categories of each phenotype.

    Returns
    -------
    Between 1/sqrt(30) and sqrt(30), in the shape of `counts`.
    """
    of_phenotypes = np.split(np.maximum(counts, 1.0), np.cumsum(n_categories)[:-1])
    scales = [np.sqrt(np.clip(c.mean() / c, 1 / 30, 30)) for c in of_phenotypes]
    return np.concatenate(scales).astype(np.float32)


def gene_scale(cells: Cells, n_genes: int, n_cells: NDArray[np.integer] | None = None) -> NDArray[np.float32]:
    """Factor of each gene in the linear path: a tenth of the inverse standard deviation over cells; shape (n_genes,).

    As in a standardised logistic regression, without centring, which would make zeros dense. Genes that hardly vary
    are not blown up.

    Parameters
    ----------
    cells
        Expressed genes of the training cells.
    n_genes
        Number of genes of the model.
    n_cells
        Number of cells that have each gene, where some lack it; shape (n_genes,).
    """
    n = np.maximum(len(cells) if n_cells is None else n_cells, 1)
    mean = np.bincount(cells.genes, weights=cells.values, minlength=n_genes) / n
    square = np.bincount(cells.genes, weights=cells.values.astype(np.float64) ** 2, minlength=n_genes) / n
    deviation = np.sqrt(np.maximum(square - mean**2, 0.0))
    return (0.1 / np.maximum(deviation, 0.01)).astype(np.float32)
