"""What is fitted after training, in numpy: arrays in, arrays out."""

from polygene_scverse.fit._state import FittedState

__all__ = ["FittedState"]
