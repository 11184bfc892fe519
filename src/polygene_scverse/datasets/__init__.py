"""Example data, and the published models and data of the original."""

from polygene_scverse.datasets._pbmc68k import pbmc68k
from polygene_scverse.datasets._pretrained import pretrained
from polygene_scverse.datasets._simulate import simulate
from polygene_scverse.datasets._tabula_sapiens import tabula_sapiens

__all__ = ["pbmc68k", "pretrained", "simulate", "tabula_sapiens"]
