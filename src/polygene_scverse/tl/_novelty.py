"""How novel cells are, into obs."""

from __future__ import annotations

from pathlib import Path

from anndata import AnnData
from mudata import MuData

from polygene_scverse._constants import NOVELTY
from polygene_scverse._validate import check_free, check_key_added, check_notes, write_notes
from polygene_scverse.model import Polygene
from polygene_scverse.tl._models import anndata_of, find


def novelty(
    adata: AnnData | MuData,
    *,
    phenotype: str | None = None,
    key_added: str = NOVELTY,
    model: Polygene | str | Path | None = None,
    gene_symbols: str | None = None,
    gene_ids: str | None = None,
    mod: str = "rna",
    batch_size: int = 64,
) -> None:
    """Score how unlike the training cells each cell is.

    A high score means that the cell may be of a type that was not in the training data. New types that resemble a known
    one are not found, and cells of new donors or protocols score higher than cells like those in training. See
    :meth:`~polygene_scverse.model.Polygene.novelty` for what is measured.

    Parameters
    ----------
    adata
        Cells; genes are matched by name, unmeasured ones count as average.
    phenotype
        Whose categories are the known ones. By default the cell type, if a phenotype has one of the usual names of it,
        else the first phenotype.
    key_added
        Obs column to write.
    model
        A model, or the folder it was saved to. By default the one last trained on `adata`.
    gene_symbols, gene_ids
        Columns of ``var`` with symbols or ids of the genes, which go before ``var_names``. By default names are
        matched, then usual columns such as ``var["gene_ids"]``, then symbols to Ensembl ids, see
        :meth:`~polygene_scverse.model.Polygene.gene_names`.
    mod
        Modality to read and write, for MuData.
    batch_size
        Cells per step.

    Returns
    -------
    Nothing. Writes ``obs["polygene_novelty"]``, from 0 to 1: the share of the cells held out in training that look less
    novel. A value of 0.95 is reached by 5 % of cells like those. The phenotype is noted in
    ``uns["polygene"]["novelty"]``.

    Raises
    ------
    ValueError
        If no model is found, the phenotype is not the model's, no gene matches, or expression has the wrong scale; and
        if the model was trained on very few cells or comes from the original, or if the column holds something else,
        such as the predictions of a phenotype called "novelty".

    Examples
    --------
    >>> pgs.tl.novelty(adata)
    >>> adata[adata.obs["polygene_novelty"] > 0.99]
    """
    check_key_added(key_added)
    data = anndata_of(adata, mod)
    check_notes(data, "novelty")
    trained = find(adata, model)
    check_free(data, "novelty", [key_added], trained.categories)
    name = trained.reference_phenotype if phenotype is None else phenotype
    table = trained.novelty(data, phenotype=name, gene_symbols=gene_symbols, gene_ids=gene_ids, batch_size=batch_size)
    data.obs[key_added] = table["novelty"].to_numpy()
    write_notes(data, novelty={"phenotype": name} | ({} if key_added == NOVELTY else {"key": key_added}))
