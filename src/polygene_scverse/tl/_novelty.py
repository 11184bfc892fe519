"""Score how novel cells are."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from anndata import AnnData
from mudata import MuData

from polygene_scverse._constants import NOVELTY
from polygene_scverse._validate import check_free, check_key_added, check_notes, warn, write_notes
from polygene_scverse.model import Polygene
from polygene_scverse.tl._models import cells_and_model

FAR: Final = 0.95
"""Novelty that about 5 % of the cells of known categories exceed."""
FAR_SHARE: Final = 1 / 3
"""Minimum fraction of cells above it for a warning."""


def novelty(
    adata: AnnData | MuData,
    *,
    phenotype: str | None = None,
    key_added: str = NOVELTY,
    model: Polygene | str | Path | None = None,
    gene_symbols: str | None = None,
    gene_ids: str | None = None,
    mod: str | None = None,
    batch_size: int = 128,
) -> None:
    """Score how unlike the training cells each cell is.

    A high score means that the cell may be of a type that was not in the training data. New types that resemble a known
    type are not detected, and cells of new donors or protocols score somewhat higher than cells like those in training.
    Score cells that the model was not trained on: the training cells themselves score higher than others like them, a
    tenth to half of them above 0.95, because the principal components are fitted to them.
    :meth:`~polygene_scverse.model.Polygene.novelty` describes the method.

    Parameters
    ----------
    adata
        Cells to score. Genes are matched by name; unmeasured genes are accounted for.
    phenotype
        Phenotype whose categories are the known types. By default the cell type, if a phenotype has one of its common
        names, otherwise the first phenotype.
    key_added
        Obs column to write to.
    model
        A model, or the folder it was saved to. By default the one last trained on `adata`.
    gene_symbols, gene_ids
        Columns of ``var`` with gene symbols or Ensembl ids, tried before ``var_names``. By default, genes are matched
        by name, then by common columns such as ``var["gene_ids"]``, then from symbols to Ensembl ids, see
        :meth:`~polygene_scverse.model.Polygene.gene_names`.
    mod
        Modality to use, for MuData; by default the one that the model was trained on, or ``"rna"``.
    batch_size
        Number of cells per step.

    Returns
    -------
    None. Writes ``obs["polygene_novelty"]``, from 0 to 1: the fraction of the cells held out in training that are less
    novel. About 5 % of such cells have a value above 0.95; if more than a third of `adata` do, a warning is raised. The
    phenotype is recorded in ``uns["polygene"]["novelty"]``.

    Raises
    ------
    ValueError
        If no model is found, if the model does not have the phenotype, if no gene matches, if expression has the wrong
        scale, if the model was trained on very few cells or imported from the original, or if the column was written by
        something else, such as the predictions of a phenotype called "novelty".

    Examples
    --------
    >>> pgs.tl.novelty(adata)
    >>> adata[adata.obs["polygene_novelty"] > 0.99]
    """
    check_key_added(key_added)
    data, trained = cells_and_model(adata, model, mod)
    check_notes(data, "novelty")
    check_free(data, "novelty", [key_added], trained.categories)
    name = trained.reference_phenotype if phenotype is None else phenotype
    table = trained.novelty(data, phenotype=name, gene_symbols=gene_symbols, gene_ids=gene_ids, batch_size=batch_size)
    found = table["novelty"].to_numpy()
    n_far = int((found > FAR).sum())
    if n_far > FAR_SHARE * len(found):
        warn(
            f"`adata`: {n_far:,} of {len(found):,} cells have a novelty above {FAR}; about {1 - FAR:.0%} are expected. "
            f"These cells may not be of any category of {name!r}, or may differ from the training cells in tissue, "
            "protocol or quality: do not rely on their predictions. The training cells of the model also score higher "
            "than new cells, so score held-out ones, such as adata[model.validation_indices]."
        )
    data.obs[key_added] = found
    write_notes(data, novelty={"phenotype": name} | ({} if key_added == NOVELTY else {"key": key_added}))
