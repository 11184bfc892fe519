"""Embed cells and write the embedding to obsm."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import scanpy as sc
from anndata import AnnData
from mudata import MuData

from polygene_scverse._constants import EMBEDDING, EMBEDDING_UMAP, PACKAGE
from polygene_scverse._threads import threads_kept
from polygene_scverse._validate import check_key_added, check_seed, check_whole, warn
from polygene_scverse.model import Polygene
from polygene_scverse.tl._models import cells_and_model

FEWEST = 4
"""Minimum number of cells for a UMAP in scanpy."""


def embed(
    adata: AnnData | MuData,
    *,
    pooling: str = "decision",
    given: str | Sequence[str] | None = None,
    umap: bool = True,
    n_neighbors: int = 15,
    key_added: str = EMBEDDING,
    model: Polygene | str | Path | None = None,
    gene_symbols: str | None = None,
    gene_ids: str | None = None,
    mod: str | None = None,
    seed: int = 0,
    batch_size: int = 128,
) -> None:
    """Embed cells and compute a UMAP of the embedding.

    By default recorded phenotypes are not shown to the model, so the embedding of a cell does not depend on its own
    labels.

    Parameters
    ----------
    adata
        Cells to embed. Genes are matched by name.
    pooling
        Which states to use: ``"decision"``, the mean over phenotypes of the states that they are predicted from;
        ``"phenotypes"``, the mean of the phenotype tokens before the prediction head; ``"genes"``, the mean over
        expressed genes; ``"cls"``, the CLS token; or the name of a phenotype, for its token alone.
    given
        Phenotypes whose recorded values are shown to the model, such as a batch; by default none.
    umap
        Whether to compute neighbours and a UMAP of the embedding with scanpy.
    n_neighbors
        Number of neighbours for the UMAP.
    key_added
        Key of ``obsm`` to write to.
    model
        A model, or the folder it was saved to. By default the one last trained on `adata`.
    gene_symbols, gene_ids
        Columns of ``var`` with gene symbols or Ensembl ids, tried before ``var_names``. By default, genes are matched
        by name, then by common columns such as ``var["gene_ids"]``, then from symbols to Ensembl ids, see
        :meth:`~polygene_scverse.model.Polygene.gene_names`.
    mod
        Modality to use, for MuData; by default the one that the model was trained on, or ``"rna"``.
    seed
        Random seed for the UMAP.
    batch_size
        Number of cells per step.

    Returns
    -------
    None. Writes ``obsm["X_polygene"]`` (n_obs x n_hidden), and with `umap` also ``obsm["X_polygene_umap"]``,
    ``uns["polygene_neighbors"]``, ``obsp["polygene_distances"]`` and ``obsp["polygene_connectivities"]``. Without it,
    these are removed if they belong to an earlier embedding with the same key that differs.

    With fewer than four cells no UMAP is computed, with a warning.

    Raises
    ------
    ValueError
        If no model is found, if `pooling` is unknown, if the model does not have a phenotype, if no gene matches, or if
        expression has the wrong scale.
    KeyError
        If a phenotype in `given` is not an obs column.

    Examples
    --------
    >>> pgs.tl.embed(adata)
    >>> pgs.pl.umap(adata, color="cell_type")
    """
    check_key_added(key_added)
    check_whole(n_neighbors, "n_neighbors", 2)
    check_seed(seed)
    data, trained = cells_and_model(adata, model, mod)
    embedding = trained.get_latent_representation(
        data, pooling=pooling, given=given, gene_symbols=gene_symbols, gene_ids=gene_ids, batch_size=batch_size
    )
    drawn = _umap(embedding, key_added, n_neighbors, seed) if umap and data.n_obs >= FEWEST else None
    key_of_umap = EMBEDDING_UMAP if key_added == EMBEDDING else f"{key_added}_umap"
    if drawn is None and (umap or not np.array_equal(data.obsm.get(key_added, embedding), embedding)):
        _remove_drawn(data, key_added, key_of_umap)
    data.obsm[key_added] = embedding  # nothing can fail from here on
    if drawn is not None:
        data.obsm[key_of_umap] = drawn.obsm["X_umap"]
        for part in ("distances", "connectivities"):
            data.obsp[f"{PACKAGE}_{part}"] = drawn.obsp[part]
        keys = {"distances_key": f"{PACKAGE}_distances", "connectivities_key": f"{PACKAGE}_connectivities"}
        data.uns[f"{PACKAGE}_neighbors"] = {**drawn.uns["neighbors"], **keys}
    elif umap:
        warn(
            f"`umap`: {data.n_obs} cells are too few for a UMAP, which needs {FEWEST}. obsm[{key_added!r}] was "
            f"written, obsm[{key_of_umap!r}] was not. Pass more cells, or umap=False."
        )


def _remove_drawn(data: AnnData, key: str, key_of_umap: str) -> None:
    """Remove the UMAP and the neighbours of an earlier embedding that had the same key."""
    data.obsm.pop(key_of_umap, None)
    graph = data.uns.get(f"{PACKAGE}_neighbors", {})
    if graph.get("params", {}).get("use_rep") == key:
        del data.uns[f"{PACKAGE}_neighbors"]
        for part in ("distances", "connectivities"):
            data.obsp.pop(f"{PACKAGE}_{part}", None)


def _umap(embedding: np.ndarray, key: str, n_neighbors: int, seed: int) -> AnnData:
    """Compute neighbours and UMAP of an embedding with scanpy."""
    bare = AnnData(obsm={key: embedding})
    with threads_kept():
        sc.pp.neighbors(bare, use_rep=key, n_neighbors=min(n_neighbors, len(embedding) - 1), random_state=seed)
        sc.tl.umap(bare, random_state=seed)
    return bare
