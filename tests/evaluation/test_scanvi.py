import numpy as np
import pytest

from polygene_scverse.datasets import simulate
from polygene_scverse.evaluation._scanvi import scanvi_probabilities


@pytest.mark.slow
def test_probabilities_of_the_labels_that_occur():
    cells = simulate(300, 60, phenotypes={"cell_type": 3}, effect=3.0)
    codes = 2 * cells.obs["cell_type"].cat.codes.to_numpy().astype(int)  # 0, 2, 4
    train, test = cells.X[:240], cells.X[240:]
    proba, again = (scanvi_probabilities(train, codes[:240], test, max_epochs=(15, 10)) for _ in range(2))
    assert proba.shape == (60, 3)
    np.testing.assert_allclose(proba.sum(1), 1, rtol=1e-5)
    assert (2 * proba.argmax(1) == codes[240:]).mean() > 0.7
    np.testing.assert_array_equal(proba, again)
