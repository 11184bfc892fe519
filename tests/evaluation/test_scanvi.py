import numpy as np
import pytest

from polygene_scverse.datasets import simulate
from polygene_scverse.evaluation._features import Features
from polygene_scverse.evaluation._scanvi import scanvi_probabilities


def test_it_needs_counts(told_apart):
    train, codes, test, _ = told_apart
    with pytest.raises(ValueError, match="`baselines`: scANVI needs raw counts"):
        scanvi_probabilities(train, codes, None, test, 0)


@pytest.mark.slow
def test_probabilities_of_the_labels_that_occur():
    cells = simulate(300, 60, phenotypes={"cell_type": 3}, effect=3.0)
    codes = 2 * cells.obs["cell_type"].cat.codes.to_numpy().astype(int)  # 0, 2, 4
    train, test = (Features(counts.toarray(), counts) for counts in (cells.X[:240], cells.X[240:]))
    proba, again = (scanvi_probabilities(train, codes[:240], None, test, 0, epochs=(15, 10)) for _ in range(2))
    assert proba.shape == (60, 3)
    np.testing.assert_allclose(proba.sum(1), 1, rtol=1e-5)
    assert (2 * proba.argmax(1) == codes[240:]).mean() > 0.7
    np.testing.assert_array_equal(proba, again)
