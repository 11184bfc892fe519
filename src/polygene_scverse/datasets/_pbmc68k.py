"""Blood cells that are part of the scanpy installation."""

from __future__ import annotations

import scanpy as sc
import scipy.sparse as sp
from anndata import AnnData


def pbmc68k() -> AnnData:
    """Load 700 peripheral blood mononuclear cells of one donor, log-normalised.

    This is :func:`scanpy.datasets.pbmc68k_reduced` with the expression of its ``.raw`` in ``X`` instead of scaled
    values, and without results computed from the scaled values. Nothing is downloaded.

    Returns
    -------
    AnnData (700 x 765). ``X`` is log1p of counts per 10,000 (of all genes of the original data, not of these 765) in
    CSR, float32. ``obs["bulk_labels"]`` has 10 cell types, ``obs["phase"]`` 3 phases of the cell cycle. The published
    UMAP is in ``obsm["X_umap"]``, and its colours are in ``uns``.

    References
    ----------
    Zheng et al.: Massively parallel digital transcriptional profiling of single cells. Nature Communications 2017.

    Examples
    --------
    >>> pgs.datasets.pbmc68k()
    """
    reduced = sc.datasets.pbmc68k_reduced()
    return AnnData(
        X=sp.csr_matrix(reduced.raw.X, dtype="float32"),
        obs=reduced.obs,
        var=reduced.raw.var,
        obsm={"X_umap": reduced.obsm["X_umap"]},
        uns={key: value for key, value in reduced.uns.items() if key.endswith("_colors")},
    )
