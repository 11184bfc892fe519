"""Every key that is read from or written to AnnData, and the words that mean "no value"."""

from __future__ import annotations

from typing import Final

PACKAGE: Final = "polygene"
UNS: Final = "polygene"
RANK: Final = "highly_variable_rank"
EMBEDDING: Final = "X_polygene"
EMBEDDING_UMAP: Final = "X_polygene_umap"

X_FIELD: Final = "X"
PHENOTYPE_FIELD: Final = "phenotypes"

UNKNOWN: Final = -1
"""Code of a phenotype value that is missing."""

BALANCE: Final = 0.5
"""A category is chosen by probability / (share of the training cells) ** BALANCE."""

TARGET_SUM: Final = 1e4
"""Counts per cell after normalisation."""

MISSING_WORDS: Final = frozenset({"", "unknown", "na", "n/a", "nan", "none", "<na>", "unassigned"})
"""Labels, in lower case, that are read as a missing value."""

PHENOTYPE_ALIASES: Final[dict[str, tuple[str, ...]]] = {
    "sex": ("sex", "gender"),
    "tissue": ("tissue", "tissue_type", "organ"),
    "cell_type": ("cell_type", "celltype", "cell_types", "bulk_labels", "cell_ontology_class", "annotation"),
    "age": ("development_stage", "age", "age_group"),
    "disease": ("disease", "disease_status", "diagnosis"),
    "phase": ("phase",),
    "condition": ("condition", "stim", "treatment"),
}
"""Obs columns that are taken as a phenotype when none is named; of each row the first one present."""


def prediction_key(phenotype: str) -> str:
    """Column of ``obs`` that holds the predicted category of `phenotype`."""
    return f"{PACKAGE}_{phenotype}"


def confidence_key(phenotype: str) -> str:
    """Column of ``obs`` that holds the probability of the predicted category."""
    return f"{PACKAGE}_{phenotype}_confidence"


def probability_key(phenotype: str) -> str:
    """Entry of ``obsm`` that holds the probability of each category."""
    return f"{PACKAGE}_{phenotype}_proba"
