"""Tables of the results that functions of `tl` stored in AnnData."""

from polygene_scverse.get._abstention import abstention
from polygene_scverse.get._audit import audit
from polygene_scverse.get._biomarkers import biomarkers
from polygene_scverse.get._check_generated import check_generated
from polygene_scverse.get._confusion import confusion
from polygene_scverse.get._counterfactual import counterfactual
from polygene_scverse.get._evaluation import evaluation
from polygene_scverse.get._gene_interactions import gene_interactions
from polygene_scverse.get._history import history
from polygene_scverse.get._perturb import perturb
from polygene_scverse.get._polyfunctionality import polyfunctionality
from polygene_scverse.get._prediction_sets import prediction_sets
from polygene_scverse.get._predictions import predictions
from polygene_scverse.get._probabilities import probabilities
from polygene_scverse.get._reliability import reliability
from polygene_scverse.get._token_confusion import token_confusion
from polygene_scverse.get._token_scores import token_scores

__all__ = [
    "abstention",
    "audit",
    "biomarkers",
    "check_generated",
    "confusion",
    "counterfactual",
    "evaluation",
    "gene_interactions",
    "history",
    "perturb",
    "polyfunctionality",
    "prediction_sets",
    "predictions",
    "probabilities",
    "reliability",
    "token_confusion",
    "token_scores",
]
