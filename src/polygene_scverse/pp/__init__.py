"""Before training."""

from polygene_scverse.pp._prepare import prepare

__all__ = ["prepare"]
