import numpy as np
import pytest
import scipy.sparse as sp

from polygene_scverse.evaluation._baselines import BASELINES, baseline_probabilities, choose_baselines
from polygene_scverse.evaluation._celltypist import celltypist_problem
from polygene_scverse.evaluation._features import Features
from polygene_scverse.evaluation._scikit_learn import CLASSIFIERS


def test_choice():
    assert choose_baselines(None) == [*CLASSIFIERS, *([] if celltypist_problem() else ["CellTypist"])]
    assert choose_baselines("boosted trees on PCs") == ["boosted trees on PCs"]
    assert choose_baselines([]) == []
    assert set(BASELINES) == {*CLASSIFIERS, "CellTypist", "scANVI"}
    with pytest.raises(ValueError, match="`baselines`: found 'xgb', but it must be one of"):
        choose_baselines(["xgb"])


def test_a_baseline_gets_the_cells_whose_category_is_known(monkeypatch):
    passed = {}

    def stand_in(train, labels, groups, test, seed):
        passed.update(train=train.counts.toarray(), labels=labels, groups=groups, test=test.counts.toarray(), seed=seed)
        return np.tile([0.25, 0.75], (len(test.x), 1))

    monkeypatch.setitem(BASELINES, "scANVI", stand_in)
    counts, groups = sp.csr_matrix(np.arange(12).reshape(4, 3)), np.array([5, 6, 7, 8])
    train = Features(np.zeros((4, 3), dtype=np.float32), counts)
    proba = baseline_probabilities("scANVI", train, np.array([2, -1, 0, 2]), groups, train.take(np.array([1])), 3, 5)
    np.testing.assert_array_equal(passed["train"], counts.toarray()[[0, 2, 3]])
    np.testing.assert_array_equal(passed["test"], counts.toarray()[[1]])
    assert passed["labels"].tolist() == [2, 0, 2]
    assert passed["groups"].tolist() == [5, 7, 8]
    assert passed["seed"] == 5
    assert proba.tolist() == [[0.25, 0.0, 0.75]]
