"""Embeddings into obsm."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import scanpy as sc
from anndata import AnnData
from mudata import MuData

from polygene_scverse._constants import EMBEDDING, EMBEDDING_UMAP, PACKAGE
from polygene_scverse._threads import threads_kept
from polygene_scverse._validate import check_key_added, warn
from polygene_scverse.model import Polygene
from polygene_scverse.tl._models import anndata_of, find

FEWEST = 4
"""Cells that scanpy can make a UMAP of."""


def embed(
    adata: AnnData | MuData,
    *,
    pooling: str = "decision",
    umap: bool = True,
    n_neighbors: int = 15,
    key_added: str = EMBEDDING,
    model: Polygene | str | Path | None = None,
    gene_symbols: str | None = None,
    gene_ids: str | None = None,
    mod: str = "rna",
    seed: int = 0,
    batch_size: int = 64,
) -> None:
    """Embed cells.

    Recorded phenotypes of a cell are not shown to the model, so an embedding cannot contain its own label.

    Parameters
    ----------
    adata
        Cells to embed; genes are matched by name.
    pooling
        ``"decision"`` is the mean over phenotypes of the state that each is predicted from, which the training shapes
        most; ``"phenotypes"`` is the same before the last step, ``"genes"`` the mean over
        expressed genes, ``"cls"`` the first slot; the name of a phenotype takes its slot alone.
    umap
        Whether to compute neighbours and a UMAP of the embedding, by scanpy.
    n_neighbors
        Neighbours of each cell for the UMAP.
    key_added
        Entry of ``obsm`` to write.
    model
        A model, or the folder it was saved to. By default the one last trained on `adata`.
    gene_symbols, gene_ids
        Columns of ``var`` with symbols or ids of the genes, which go before ``var_names``. By default names are
        matched, then usual columns such as ``var["gene_ids"]``, then symbols to Ensembl ids, see
        :meth:`~polygene_scverse.model.Polygene.gene_names`.
    mod
        Modality to read and write, for MuData.
    seed
        Seed of the UMAP.
    batch_size
        Cells per step.

    Returns
    -------
    Nothing. Writes ``obsm["X_polygene"]`` (n_obs x n_hidden), and with `umap` also ``obsm["X_polygene_umap"]``,
    ``uns["polygene_neighbors"]``, ``obsp["polygene_distances"]`` and ``obsp["polygene_connectivities"]``.

    Of fewer than four cells there is no UMAP, and a warning says so.

    Raises
    ------
    ValueError
        If no model is found, `pooling` is unknown, no gene matches, or expression has the wrong scale.
    """
    check_key_added(key_added)
    data = anndata_of(adata, mod)
    trained = find(adata, model)
    embedding = trained.get_latent_representation(
        data, pooling=pooling, gene_symbols=gene_symbols, gene_ids=gene_ids, batch_size=batch_size
    )
    drawn = _umap(embedding, key_added, n_neighbors, seed) if umap and data.n_obs >= FEWEST else None
    key_of_umap = EMBEDDING_UMAP if key_added == EMBEDDING else f"{key_added}_umap"
    data.obsm[key_added] = embedding  # from here on nothing can fail
    if drawn is not None:
        data.obsm[key_of_umap] = drawn.obsm["X_umap"]
        for part in ("distances", "connectivities"):
            data.obsp[f"{PACKAGE}_{part}"] = drawn.obsp[part]
        keys = {"distances_key": f"{PACKAGE}_distances", "connectivities_key": f"{PACKAGE}_connectivities"}
        data.uns[f"{PACKAGE}_neighbors"] = {**drawn.uns["neighbors"], **keys}
    elif umap:
        if key_of_umap in data.obsm:  # of an earlier embedding
            del data.obsm[key_of_umap]
        warn(
            f"`umap`: {data.n_obs} cells are too few for a UMAP, which needs {FEWEST}. obsm[{key_added!r}] is written, "
            f"obsm[{key_of_umap!r}] is not. Pass more cells, or umap=False."
        )


def _umap(embedding: np.ndarray, key: str, n_neighbors: int, seed: int) -> AnnData:
    """Neighbours and UMAP of an embedding, by scanpy."""
    bare = AnnData(obsm={key: embedding})
    with threads_kept():
        sc.pp.neighbors(bare, use_rep=key, n_neighbors=min(n_neighbors, len(embedding) - 1), random_state=seed)
        sc.tl.umap(bare, random_state=seed)
    return bare
