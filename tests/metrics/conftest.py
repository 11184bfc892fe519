import numpy as np
import pytest


@pytest.fixture(params=[(97, 5, 0), (211, 3, 1), (13, 11, 2)], ids=["5 classes", "3 classes", "few cells"])
def cells(request):
    """True codes (a tenth unknown, the last category never true), predicted codes and probabilities."""
    n_obs, n_categories, seed = request.param
    rng = np.random.default_rng(seed)
    true = rng.integers(0, n_categories - 1, n_obs)
    logits = rng.normal(0, 1, (n_obs, n_categories))
    logits[np.arange(n_obs), true] += 1.5
    true[rng.random(n_obs) < 0.1] = -1
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return true, probabilities.argmax(1), probabilities
