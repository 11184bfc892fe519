"""Preprocessing: what can be done before training."""

from polygene_scverse.pp._confounding import confounding
from polygene_scverse.pp._prepare import prepare

__all__ = ["confounding", "prepare"]
