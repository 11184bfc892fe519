"""Preprocessing before training."""

from polygene_scverse.pp._confounding import confounding
from polygene_scverse.pp._prepare import prepare
from polygene_scverse.pp._sum_genes import sum_genes

__all__ = ["confounding", "prepare", "sum_genes"]
