import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from polygene_scverse.evaluation import _celltypist
from polygene_scverse.evaluation._baselines import baseline_probabilities, choose_baselines
from polygene_scverse.evaluation._celltypist import celltypist_problem
from polygene_scverse.evaluation._scikit_learn import CLASSIFIERS

PROBLEMS = {
    "not installed": ({}, "it is not installed"),
    "too new": ({"celltypist": "1.7.1", "scikit-learn": "1.8.0"}, "scikit-learn 1.8.0 removed"),
    "usable": ({"celltypist": "1.7.1", "scikit-learn": "1.7.2"}, ""),
}


@pytest.mark.parametrize(("versions", "problem"), PROBLEMS.values(), ids=PROBLEMS)
def test_it_runs_where_it_can_be_trained(versions, problem, monkeypatch):
    def version(name):
        if name not in versions:
            raise _celltypist.PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(_celltypist, "version", version)
    assert problem in celltypist_problem()
    assert choose_baselines(None) == [*CLASSIFIERS, *([] if problem else ["CellTypist"])]
    if problem:
        with pytest.raises(ValueError, match=f"`baselines`: CellTypist cannot be trained here: .*{problem}"):
            choose_baselines("CellTypist")
    else:
        assert celltypist_problem() == ""
        assert choose_baselines("CellTypist") == ["CellTypist"]


def test_it_is_called_as_it_wants(told_apart, monkeypatch):
    """A stand-in with the interface of CellTypist 1.7: its sigmoids come in another order and do not sum to 1."""
    train, codes, test, truth = told_apart

    def fit(x, labels, genes, check_expression, n_jobs):
        assert x.shape == (len(labels), len(genes))
        assert not check_expression
        return LogisticRegression().fit(x, labels)

    def annotate(query, model):
        table = pd.DataFrame(model.predict_proba(query.X), columns=model.classes_, index=query.obs_names)
        return SimpleNamespace(probability_matrix=0.5 * table[table.columns[::-1]])

    monkeypatch.setitem(sys.modules, "celltypist", SimpleNamespace(train=fit, annotate=annotate))
    proba = baseline_probabilities("CellTypist", train, codes, None, test, 4, 0)
    known = codes >= 0
    expected = LogisticRegression().fit(train.x[known], codes[known]).predict_proba(test.x)
    np.testing.assert_allclose(proba[:, :3], expected, atol=1e-6)
    assert (proba.argmax(1) == truth).mean() > 0.8
