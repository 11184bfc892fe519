"""The scvi-tools model."""

from polygene_scverse.model._polygene import Polygene

__all__ = ["Polygene"]
