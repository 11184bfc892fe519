"""Embeddings into obsm."""

from __future__ import annotations

from pathlib import Path

import scanpy as sc
from anndata import AnnData
from mudata import MuData

from polygene_scverse._constants import EMBEDDING, EMBEDDING_UMAP, PACKAGE
from polygene_scverse._threads import threads_kept
from polygene_scverse.model import Polygene
from polygene_scverse.tl._models import anndata_of, find


def embed(
    adata: AnnData | MuData,
    *,
    pooling: str = "decision",
    umap: bool = True,
    n_neighbors: int = 15,
    key_added: str = EMBEDDING,
    model: Polygene | str | Path | None = None,
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

    Raises
    ------
    ValueError
        If no model is found, `pooling` is unknown, no gene matches, or expression has the wrong scale.
    """
    data = anndata_of(adata, mod)
    trained = find(adata, model)
    data.obsm[key_added] = trained.get_latent_representation(data, pooling=pooling, batch_size=batch_size)
    if umap:
        graph = f"{PACKAGE}_neighbors"
        bare = AnnData(obs=data.obs[[]].copy(), obsm={key_added: data.obsm[key_added]})
        with threads_kept():
            sc.pp.neighbors(bare, use_rep=key_added, n_neighbors=min(n_neighbors, data.n_obs - 1), random_state=seed)
            sc.tl.umap(bare, random_state=seed)
        data.obsm[EMBEDDING_UMAP if key_added == EMBEDDING else f"{key_added}_umap"] = bare.obsm["X_umap"]
        for part in ("distances", "connectivities"):
            data.obsp[f"{PACKAGE}_{part}"] = bare.obsp[part]
        keys = {"distances_key": f"{PACKAGE}_distances", "connectivities_key": f"{PACKAGE}_connectivities"}
        data.uns[graph] = {**bare.uns["neighbors"], **keys}
