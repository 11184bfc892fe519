"""Signs of novelty: scikit-learn, scipy and dense arrays as oracles."""

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.stats import entropy as entropy_of_scipy
from scipy.stats import percentileofscore
from sklearn.decomposition import PCA

from polygene_scverse.fit._novelty import N_PCS, entropy, fit_novelty, percentile, unexplained_expression

N_GENES = 50


def drawn(n_cells, seed=0):
    """Genes that share three factors, of which half are silent in a cell."""
    rng = np.random.default_rng([seed, 1])
    x = np.abs(rng.normal(size=(n_cells, 3)) @ np.random.default_rng(0).normal(size=(3, N_GENES)))
    return ((x + 0.1) * (rng.random(x.shape) < 0.5)).astype(np.float32)


TRAIN, OTHERS = drawn(200), drawn(60, seed=1)
LOGITS = {"kind": np.random.default_rng(2).normal(0, 3, (60, 4)), "sex": np.random.default_rng(3).normal(size=(60, 2))}


@pytest.fixture(scope="module")
def reference():
    return fit_novelty(sp.csr_matrix(TRAIN), sp.csr_matrix(OTHERS), LOGITS)


def expected_squares(x, measured=None):
    """By scikit-learn's components and dense arrays."""
    pca = PCA(N_PCS, svd_solver="full").fit(TRAIN)
    left = (TRAIN - pca.inverse_transform(pca.transform(TRAIN))).var(axis=0)
    measured = np.ones(N_GENES, dtype=bool) if measured is None else measured
    filled = np.where(measured, x, pca.mean_)
    squares = (filled - pca.inverse_transform(pca.transform(filled))) ** 2 / (left + 0.01)
    return squares[:, measured].mean(axis=1)


@pytest.mark.parametrize("measured", [None, np.arange(N_GENES) % 4 != 1], ids=["all genes", "some genes"])
def test_unexplained_as_scikit_learn(reference, measured):
    x = OTHERS if measured is None else OTHERS * measured
    arrays = (reference.mean, reference.weights, reference.components)
    found = unexplained_expression(sp.csr_matrix(x), *arrays, measured)
    np.testing.assert_allclose(found, expected_squares(x, measured), rtol=0.02)


def test_the_reference_holds_both_signs_in_order(reference):
    np.testing.assert_allclose(reference.unexplained, np.sort(expected_squares(OTHERS)), rtol=0.02)
    for name, logits in LOGITS.items():
        np.testing.assert_allclose(reference.entropies[name], np.sort(entropy(logits)), rtol=1e-6)
        assert (np.diff(reference.combined[name]) >= 0).all()
    assert reference.components.shape == (N_PCS, N_GENES)
    assert {a.dtype for a in (reference.mean, reference.weights, reference.unexplained)} == {np.dtype(np.float32)}


def test_scores_of_the_held_out_cells_are_evenly_spread(reference):
    strange = unexplained_expression(sp.csr_matrix(OTHERS), reference.mean, reference.weights, reference.components)
    found = reference.score("kind", LOGITS["kind"], strange)
    assert found.shape == (60, 3)
    for column in found[:, 1:].T:
        np.testing.assert_allclose(np.sort(column), (np.arange(60) + 1.0) / 61, atol=1e-6)
    np.testing.assert_array_equal(found[:, 1], percentile(entropy(LOGITS["kind"]), reference.entropies["kind"]))
    order = found[:, 1:].max(axis=1).argsort(kind="stable")
    assert (np.diff(found[order, 0]) >= 0).all()
    assert not np.array_equal(found, reference.score("sex", LOGITS["sex"], strange))


@pytest.mark.parametrize("shape", [(2, N_GENES), (200, 1)], ids=["cells", "genes"])
def test_too_few_cells_or_genes(shape):
    few = sp.csr_matrix(TRAIN[: shape[0], : shape[1]])
    assert fit_novelty(few, few, {"kind": LOGITS["kind"][:2]}) is None


def test_few_cells_have_fewer_components():
    found = fit_novelty(sp.csr_matrix(TRAIN[:12]), sp.csr_matrix(OTHERS), LOGITS)
    assert found.components.shape == (4, N_GENES)
    assert np.isfinite(found.unexplained).all()


def test_entropy_as_scipy():
    logits = np.random.default_rng(0).normal(0, 3, (7, 5))
    expected = entropy_of_scipy(np.exp(logits), axis=1)
    np.testing.assert_allclose(entropy(logits), expected)
    np.testing.assert_allclose(entropy(logits + 100), expected)


def test_percentile_as_scipy():
    known, values = [1.0, 2.0, 2.0, 5.0], np.array([0.0, 2.0, 3.0, 9.0])
    expected = [(percentileofscore(known, v, "mean") / 100 * 4 + 0.5) / 5 for v in values]
    np.testing.assert_allclose(percentile(values, np.array(known)), expected)
