"""Every key that is read from or written to AnnData, and the words that mean "no value"."""

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
"""Column of ``obs`` that says how unlike the training cells a cell is."""

X_FIELD: Final = "X"
PHENOTYPE_FIELD: Final = "phenotypes"

TOKENS: Final = "tokens"
"""Entry of ``uns["polygene"]`` that holds the scores of hidden tokens."""
TRANSFORMER: Final = "transformer"
"""Who guesses the phenotypes that are scored there, and in the curves of a training: it alone, not both paths."""

JOINT: Final = "polygene_joint"
"""Column of ``obs`` that holds the best combination of several phenotypes."""

COUNTERFACTUAL: Final = "counterfactual"
"""Entry of ``uns["polygene"]`` that holds the arguments of a what-if question."""
UNCHANGED: Final = "unchanged"
"""Layer of its result that holds what is expected with the phenotypes as recorded."""
OBSERVED: Final = "observed"
"""Layer of its result that holds expression as measured."""
GENERATE: Final = "generate"
"""Entry of ``uns["polygene"]`` that says how cells were made."""
CHECK_GENERATED: Final = "check_generated"
"""Entry of ``uns["polygene"]`` that holds how like real cells generated ones are."""
PERTURB: Final = "perturb"
"""Entry of ``uns["polygene"]`` that says which genes were changed, and how."""
IMPUTED: Final = "imputed"
"""Layer that holds the expected expression of genes given the others."""

GENE_INTERACTIONS: Final = "gene_interactions"
"""Entry of ``uns["polygene"]`` that says what the contextual states of genes are of."""

RANK_GENES: Final = "polygene_rank_genes"
"""Entry of ``uns`` that holds which genes carry each category, in the form of scanpy's ``rank_genes_groups``."""

GENE_EMBEDDINGS: Final = "gene_embeddings"
"""Entry of ``uns["polygene"]`` that holds the arguments that states of genes by context were made with."""

EXPLAIN_PREDICTION: Final = "explain_prediction"
"""Entry of ``uns["polygene"]`` that says which phenotype contributions of genes are to."""

POLYFUNCTIONALITY: Final = "polyfunctionality"
"""Entry of ``uns["polygene"]`` that says how far the role of each gene moves between contexts."""
BIOMARKERS: Final = "biomarkers"
"""Entry of ``uns["polygene"]`` that says in which contexts each gene carries a phenotype."""

UNKNOWN: Final = -1
"""Code of a phenotype value that is missing."""

BALANCE: Final = 0.5
"""A category is chosen by probability / (share of the training cells) ** BALANCE."""

KEEP: Final = 0.0
"""Share of a cell's own expression that is shown in what-if questions, see benchmarks/what_if.py."""

IMPUTE_KEEP: Final = 0.75
"""The same when measured genes are imputed."""

N_ROUNDS: Final = 10
"""Rounds in which the genes of a new cell are drawn, see benchmarks/generation.py."""

N_RESPONSES: Final = 200
"""Genes whose response to a perturbation is asked for unless they are named, the most variable first."""

N_GENES: Final = 3000
"""Genes that a model has unless told otherwise, the most variable first."""

TARGET_SUM: Final = 1e4
"""Counts per cell after normalisation."""

LINEAR_SUM: Final = 1e3
"""The same for the linear path: the logarithm of smaller numbers tells better how much of a gene there is."""

MISSING_WORDS: Final = frozenset({"unknown", "nan", "<na>", "unassigned", "n/a"})
"""Labels, in lower case, that are read as a missing value, besides real ones and empty text; this is said."""

DOUBTFUL_WORDS: Final = frozenset({"none", "na", "null", "missing", "not available", "not applicable", "-", "?", "."})
"""Labels, in lower case, that are kept, such as a control arm called none; this is said."""

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


UNASSIGNED: Final = "unassigned"
"""Category of a predicted phenotype where the model was asked not to guess."""


# keys of what is written for a phenotype, or for another name that the user chose

OBS_SUFFIXES: Final = ("_confidence", "_expected", "_filled_probability", "_filled")
"""Ends of columns of ``obs`` that belong to a phenotype."""
JOINT_ENDS: Final = ("", "_probability", "_impossible", "_flagged")
"""Ends of columns of ``obs`` that belong to a combination of phenotypes."""
NOTES: Final[dict[str, tuple[str, ...]]] = {
    "prepare": ("scale", "place"),
    "train": ("phenotypes", "versions"),
    "predict": (),
    "calibration": (),
    "coverage": (),
    "balance": (),
    "fill": (),
    "joint": (),
    "impute": ("layer", "keep"),
    "novelty": ("phenotype",),
    "evaluate": ("table", "words"),
    "audit": ("table", "words"),
    TOKENS: ("scores", "genes"),
    CHECK_GENERATED: ("table", "groupby"),
    GENE_INTERACTIONS: ("contexts", "covariance"),
    POLYFUNCTIONALITY: ("table", "groupby"),
    BIOMARKERS: ("table", "phenotype"),
}
"""Entries of ``uns["polygene"]``, and what is in each that a verb wrote, besides names of phenotypes."""

_SUFFIX = re.compile(f"({'|'.join(OBS_SUFFIXES)})$")
_ESCAPED = re.compile(r"[%/\\\x00-\x1f\x7f]|^[.]")


def note_key(name: str) -> str:
    """A name as a key that h5ad and zarr hold as it is: slashes and the like become ``%2F``; see `name_of_note`."""
    return _ESCAPED.sub(lambda match: f"%{ord(match[0]):02X}", str(name)) or "%"


def name_of_note(key: str) -> str:
    """The name that `note_key` made a key of."""
    return "" if key == "%" else unquote(str(key))


def stem(name: str) -> str:
    """A phenotype's name as the middle part of keys.

    Usual names stay as they are. Besides `note_key`, the last underscore of ``x_confidence`` is escaped, so that the
    prediction of such a phenotype and the confidence of one that is called ``x`` are two columns.
    """
    return _SUFFIX.sub(lambda match: f"%5F{match[0][1:]}", note_key(name))


def phenotype_of(column: str) -> str | None:
    """The phenotype whose predicted category a column of ``obs`` holds, if the name of the column says so."""
    key = str(column)
    middle = key.removeprefix(f"{PACKAGE}_")
    name = name_of_note(middle)
    return name if key.startswith(f"{PACKAGE}_") and prediction_key(name) == key else None


def prediction_key(phenotype: str) -> str:
    """Column of ``obs`` that holds the predicted category of `phenotype`."""
    return f"{PACKAGE}_{stem(phenotype)}"


def confidence_key(phenotype: str) -> str:
    """Column of ``obs`` that holds the probability of the predicted category."""
    return f"{PACKAGE}_{stem(phenotype)}_confidence"


def probability_key(phenotype: str) -> str:
    """Entry of ``obsm`` that holds the probability of each category."""
    return f"{PACKAGE}_{stem(phenotype)}_proba"


def expected_key(phenotype: str) -> str:
    """Column of ``obs`` that holds the expected value of an ordered phenotype whose categories are numbers."""
    return f"{PACKAGE}_{stem(phenotype)}_expected"


def set_key(phenotype: str) -> str:
    """Entry of ``obsm`` that says of each category whether it is in the prediction set."""
    return f"{PACKAGE}_{stem(phenotype)}_set"


def gene_states_key(key: str) -> str:
    """Entry of ``varm`` that holds the mean state of each gene in each context."""
    return f"{PACKAGE}_{note_key(key)}_states"


def gene_cells_key(key: str) -> str:
    """Entry of ``varm`` that holds the number of cells of each context that express a gene."""
    return f"{PACKAGE}_{note_key(key)}_n_cells"


def filled_key(phenotype: str) -> str:
    """Column of ``obs`` that holds the recorded category, or the predicted one where none is recorded."""
    return f"{PACKAGE}_{stem(phenotype)}_filled"


def filled_probability_key(phenotype: str) -> str:
    """Column of ``obs`` that holds the probability of a category that was filled in."""
    return f"{PACKAGE}_{stem(phenotype)}_filled_probability"


def audit_key(phenotype: str) -> str:
    """Column of ``obs`` that holds the probability of the recorded category."""
    return f"{PACKAGE}_audit_{stem(phenotype)}"
