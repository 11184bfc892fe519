"""The scvi-tools model."""

from polygene_scverse.model._checkpointing import Checkpoints
from polygene_scverse.model._polygene import Polygene

__all__ = ["Checkpoints", "Polygene"]
