"""The model, a subclass of scvi-tools' BaseModelClass."""

from polygene_scverse.abilities._biomarkers import ContextMarkers
from polygene_scverse.abilities._explain_prediction import Explanation
from polygene_scverse.abilities._gene_contributions import GeneContributions
from polygene_scverse.abilities._gene_states import GeneStates
from polygene_scverse.abilities._polyfunctionality import Polyfunctionality
from polygene_scverse.abilities._score_tokens import TokenCounts
from polygene_scverse.data.feed._masking import MaskingRates
from polygene_scverse.fit._state import ORIGINAL_MASK
from polygene_scverse.model._polygene import Polygene
from polygene_scverse.model.training._checkpoints import Checkpoints

__all__ = [
    "ORIGINAL_MASK",
    "Checkpoints",
    "ContextMarkers",
    "Explanation",
    "GeneContributions",
    "GeneStates",
    "MaskingRates",
    "Polyfunctionality",
    "Polygene",
    "TokenCounts",
]
