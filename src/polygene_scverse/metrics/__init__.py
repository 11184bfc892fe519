"""Metrics of predictions and similarity of genes, as pure functions of arrays.

Cells whose true code is -1 (unknown) are excluded from every score.
"""

from polygene_scverse.metrics._accuracy import accuracy
from polygene_scverse.metrics._balanced_accuracy import balanced_accuracy
from polygene_scverse.metrics._confusion_matrix import confusion_matrix
from polygene_scverse.metrics._confusion_scores import confusion_scores
from polygene_scverse.metrics._ece import ece
from polygene_scverse.metrics._gene_interactions import gene_interactions
from polygene_scverse.metrics._macro_f1 import macro_f1
from polygene_scverse.metrics._mean_absolute_error import mean_absolute_error
from polygene_scverse.metrics._nll import nll
from polygene_scverse.metrics._reliability import reliability
from polygene_scverse.metrics._risk_coverage import risk_coverage
from polygene_scverse.metrics._set_coverage import set_coverage

__all__ = [
    "accuracy",
    "balanced_accuracy",
    "confusion_matrix",
    "confusion_scores",
    "ece",
    "gene_interactions",
    "macro_f1",
    "mean_absolute_error",
    "nll",
    "reliability",
    "risk_coverage",
    "set_coverage",
]
