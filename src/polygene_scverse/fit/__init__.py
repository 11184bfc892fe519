"""State that is fitted after training, as numpy functions of arrays."""

from polygene_scverse.fit._state import FittedState

__all__ = ["FittedState"]
