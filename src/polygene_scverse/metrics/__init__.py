"""Scores of predicted phenotypes: pure functions of arrays.

Cells whose true code is -1 (unknown) are left out of every score.
"""

from polygene_scverse.metrics._accuracy import accuracy
from polygene_scverse.metrics._balanced_accuracy import balanced_accuracy
from polygene_scverse.metrics._confusion_matrix import confusion_matrix
from polygene_scverse.metrics._ece import ece
from polygene_scverse.metrics._macro_f1 import macro_f1
from polygene_scverse.metrics._nll import nll

__all__ = ["accuracy", "balanced_accuracy", "confusion_matrix", "ece", "macro_f1", "nll"]
