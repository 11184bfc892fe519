"""The scvi-tools model."""

from polygene_scverse.model._polygene import Polygene
from polygene_scverse.model.training._checkpoints import Checkpoints

__all__ = ["Checkpoints", "Polygene"]
