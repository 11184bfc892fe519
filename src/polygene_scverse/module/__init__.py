"""The masked transformer in PyTorch, independent of AnnData."""

from polygene_scverse.module._losses import LossConfig
from polygene_scverse.module._module import PolygeneModule
from polygene_scverse.module._transformer import PRESETS, TransformerConfig

__all__ = ["PRESETS", "LossConfig", "PolygeneModule", "TransformerConfig"]
