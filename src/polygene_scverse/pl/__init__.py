"""Draw what is in AnnData."""

from polygene_scverse.pl._abstention import abstention
from polygene_scverse.pl._check_generated import check_generated
from polygene_scverse.pl._confusion import confusion
from polygene_scverse.pl._evaluation import evaluation
from polygene_scverse.pl._gene_interactions import gene_interactions
from polygene_scverse.pl._history import history
from polygene_scverse.pl._reliability import reliability
from polygene_scverse.pl._token_confusion import token_confusion
from polygene_scverse.pl._umap import umap

__all__ = [
    "abstention",
    "check_generated",
    "confusion",
    "evaluation",
    "gene_interactions",
    "history",
    "reliability",
    "token_confusion",
    "umap",
]
