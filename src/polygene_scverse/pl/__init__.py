"""Plotting: figures of the results in AnnData."""

from polygene_scverse.pl._abstention import abstention
from polygene_scverse.pl._biomarkers import biomarkers
from polygene_scverse.pl._check_generated import check_generated
from polygene_scverse.pl._confusion import confusion
from polygene_scverse.pl._counterfactual import counterfactual
from polygene_scverse.pl._evaluation import evaluation
from polygene_scverse.pl._gene_interactions import gene_interactions
from polygene_scverse.pl._history import history
from polygene_scverse.pl._polyfunctionality import polyfunctionality
from polygene_scverse.pl._reliability import reliability
from polygene_scverse.pl._token_confusion import token_confusion
from polygene_scverse.pl._umap import umap

__all__ = [
    "abstention",
    "biomarkers",
    "check_generated",
    "confusion",
    "counterfactual",
    "evaluation",
    "gene_interactions",
    "history",
    "polyfunctionality",
    "reliability",
    "token_confusion",
    "umap",
]
