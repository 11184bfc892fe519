"""Keys that are read from or written to AnnData, labels that mean "no value", and defaults."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote

PACKAGE: Final = "polygene"
UNS: Final = "polygene"
RANK: Final = "highly_variable_rank"
EMBEDDING: Final = "X_polygene"
EMBEDDING_UMAP: Final = "X_polygene_umap"
NOVELTY: Final = "polygene_novelty"
"""Column of ``obs`` with the novelty of each cell."""

X_FIELD: Final = "X"
PHENOTYPE_FIELD: Final = "phenotypes"

TOKENS: Final = "tokens"
"""Entry of ``uns["polygene"]`` with the scores of hidden tokens."""
TRANSFORMER: Final = "transformer"
"""Label of phenotype scores of the transformer alone, without the linear path."""

JOINT: Final = "polygene_joint"
"""Column of ``obs`` with the most probable combination of several phenotypes."""

COUNTERFACTUAL: Final = "counterfactual"
"""Entry of ``uns["polygene"]`` with the arguments of a counterfactual."""
UNCHANGED: Final = "unchanged"
"""Layer of its result with the expression expected for the recorded phenotypes."""
OBSERVED: Final = "observed"
"""Layer of its result with the measured expression."""
GENERATE: Final = "generate"
"""Entry of ``uns["polygene"]`` with the settings of generated cells."""
CHECK_GENERATED: Final = "check_generated"
"""Entry of ``uns["polygene"]`` with the comparison of generated and real cells."""
PERTURB: Final = "perturb"
"""Entry of ``uns["polygene"]`` with the perturbed genes and settings."""
IMPUTED: Final = "imputed"
"""Layer with the expected expression of genes given the others."""

GENE_INTERACTIONS: Final = "gene_interactions"
"""Entry of ``uns["polygene"]`` with the settings of contextual gene states."""

RANK_GENES: Final = "polygene_rank_genes"
"""Entry of ``uns`` with the ranked genes of each category, in the format of scanpy's ``rank_genes_groups``."""

GENE_EMBEDDINGS: Final = "gene_embeddings"
"""Entry of ``uns["polygene"]`` with the settings of gene states by context."""

EXPLAIN_PREDICTION: Final = "explain_prediction"
"""Entry of ``uns["polygene"]`` with the phenotype to which gene contributions refer."""

POLYFUNCTIONALITY: Final = "polyfunctionality"
"""Entry of ``uns["polygene"]`` with the shift of each gene's role between contexts."""
BIOMARKERS: Final = "biomarkers"
"""Entry of ``uns["polygene"]`` with the scores of genes for a phenotype in each context."""

UNKNOWN: Final = -1
"""Code of a phenotype value that is missing."""

BALANCE: Final = 0.5
"""The category with the highest probability / (share of the training cells) ** BALANCE is chosen."""

KEEP: Final = 0.0
"""Share of a cell's own expression that is shown in counterfactuals, see benchmarks/what_if.py."""

IMPUTE_KEEP: Final = 0.75
"""The same for the imputation of measured genes."""

N_ROUNDS: Final = 10
"""Number of rounds in which the genes of a new cell are drawn, see benchmarks/generation.py."""

N_RESPONSES: Final = 200
"""Default number of genes whose response to a perturbation is predicted, most variable first."""

N_GENES: Final = 3000
"""Default number of genes of a model, most variable first."""

TARGET_SUM: Final = 1e4
"""Counts per cell after normalisation."""

LINEAR_SUM: Final = 1e3
"""The same for the linear path; the log of smaller values reflects the level of a gene better."""

MISSING_WORDS: Final = frozenset({"unknown", "nan", "<na>", "unassigned", "n/a"})
"""Labels, in lower case, that are read as missing, in addition to NaN, None and empty text; this is reported."""

DOUBTFUL_WORDS: Final = frozenset({"none", "na", "null", "missing", "not available", "not applicable", "-", "?", "."})
"""Labels, in lower case, that are kept, such as a control arm called "none"; this is reported."""

PHENOTYPE_ALIASES: Final[dict[str, tuple[str, ...]]] = {
    "sex": ("sex", "gender"),
    "tissue": ("tissue", "tissue_type", "organ"),
    "cell_type": ("cell_type", "celltype", "cell_types", "bulk_labels", "cell_ontology_class", "annotation"),
    "age": ("development_stage", "age", "age_group"),
    "disease": ("disease", "disease_status", "diagnosis"),
    "phase": ("phase",),
    "condition": ("condition", "stim", "treatment"),
}
"""Obs columns used as phenotypes by default; in each row, the first one that exists."""


UNASSIGNED: Final = "unassigned"
"""Category of a predicted phenotype if the confidence is below the requested minimum."""


# keys for results of a phenotype, or of another name chosen by the user

OBS_SUFFIXES: Final = ("_confidence", "_expected", "_filled_probability", "_filled")
"""Suffixes of ``obs`` columns that belong to a phenotype."""
JOINT_ENDS: Final = ("", "_probability", "_impossible", "_flagged")
"""Suffixes of ``obs`` columns that belong to a combination of phenotypes."""
NOTES: Final[dict[str, tuple[str, ...]]] = {
    "prepare": ("scale", "place"),
    "train": ("phenotypes", "versions"),
    "predict": (),
    "columns": (),
    "calibration": (),
    "coverage": (),
    "balance": (),
    "fill": (),
    "joint": (),
    "impute": ("layer", "keep"),
    "novelty": ("phenotype",),
    "evaluate": ("table", "notes"),
    "audit": ("table", "notes"),
    TOKENS: ("scores", "genes"),
    CHECK_GENERATED: ("table", "groupby"),
    GENE_INTERACTIONS: ("contexts", "covariance"),
    POLYFUNCTIONALITY: ("table", "groupby"),
    BIOMARKERS: ("table", "phenotype"),
}
"""Entries of ``uns["polygene"]``, and the fields by which each is recognised, besides names of phenotypes."""

_SUFFIX = re.compile(f"({'|'.join(OBS_SUFFIXES)})$")
_ESCAPED = re.compile(r"[%/\\\x00-\x1f\x7f]|^[.]")


def note_key(name: str) -> str:
    """Escape a name as a key that h5ad and zarr can store; slashes become ``%2F``. The inverse is `name_of_note`."""
    return _ESCAPED.sub(lambda match: f"%{ord(match[0]):02X}", str(name)) or "%"


def name_of_note(key: str) -> str:
    """Name from which `note_key` made a key."""
    return "" if key == "%" else unquote(str(key))


def stem(name: str) -> str:
    """Name of a phenotype as the middle part of keys.

    Common names are not changed. In addition to `note_key`, the last underscore of ``x_confidence`` is escaped, so that
    the prediction of such a phenotype and the confidence of one called ``x`` are different columns.
    """
    return _SUFFIX.sub(lambda match: f"%5F{match[0][1:]}", note_key(name))


def phenotype_of(column: str) -> str | None:
    """Phenotype whose predicted category is in a column of ``obs``, judging by its name."""
    key = str(column)
    middle = key.removeprefix(f"{PACKAGE}_")
    name = name_of_note(middle)
    return name if key.startswith(f"{PACKAGE}_") and prediction_key(name) == key else None


def prediction_key(phenotype: str) -> str:
    """Column of ``obs`` with the predicted category of `phenotype`."""
    return f"{PACKAGE}_{stem(phenotype)}"


def confidence_key(phenotype: str) -> str:
    """Column of ``obs`` with the probability of the predicted category."""
    return f"{PACKAGE}_{stem(phenotype)}_confidence"


def probability_key(phenotype: str) -> str:
    """Entry of ``obsm`` with the probability of each category."""
    return f"{PACKAGE}_{stem(phenotype)}_proba"


def expected_key(phenotype: str) -> str:
    """Column of ``obs`` with the expected value of an ordered phenotype with numeric categories."""
    return f"{PACKAGE}_{stem(phenotype)}_expected"


def set_key(phenotype: str) -> str:
    """Entry of ``obsm`` with an indicator of each category in the prediction set."""
    return f"{PACKAGE}_{stem(phenotype)}_set"


def gene_states_key(key: str) -> str:
    """Entry of ``varm`` with the mean state of each gene in each context."""
    return f"{PACKAGE}_{note_key(key)}_states"


def gene_cells_key(key: str) -> str:
    """Entry of ``varm`` with the number of cells of each context that express a gene."""
    return f"{PACKAGE}_{note_key(key)}_n_cells"


def filled_key(phenotype: str) -> str:
    """Column of ``obs`` with the recorded category, or the predicted one where it is missing."""
    return f"{PACKAGE}_{stem(phenotype)}_filled"


def filled_probability_key(phenotype: str) -> str:
    """Column of ``obs`` with the probability of a category that was filled in."""
    return f"{PACKAGE}_{stem(phenotype)}_filled_probability"


def audit_key(phenotype: str) -> str:
    """Column of ``obs`` with the probability of the recorded category."""
    return f"{PACKAGE}_audit_{stem(phenotype)}"
