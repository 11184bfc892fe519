"""Read what the verbs of `tl` wrote into AnnData, as tables."""

from polygene_scverse.get._confusion import confusion
from polygene_scverse.get._history import history
from polygene_scverse.get._predictions import predictions
from polygene_scverse.get._probabilities import probabilities

__all__ = ["confusion", "history", "predictions", "probabilities"]
