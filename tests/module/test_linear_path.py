"""The linear path on ragged batches; the oracle is the dense one-liner. 7 cells, 31 genes, 5 categories."""

import numpy as np
import pytest
import torch

from polygene_scverse.module._linear_path import OPTIONAL, LinearPath

N_CELLS, N_GENES, N_CATEGORIES = 7, 31, 5
RNG = np.random.default_rng(0)
WEIGHTS, BIAS = RNG.normal(size=(N_GENES, N_CATEGORIES)), RNG.normal(size=N_CATEGORIES)
CAP, CENTRE = RNG.uniform(1.0, 3.0, N_GENES), RNG.uniform(size=N_GENES)
X = RNG.gamma(2.0, 1.0, (N_CELLS, N_GENES)) * (RNG.random((N_CELLS, N_GENES)) < 0.4)
MEASURED = {
    "all": np.ones(N_GENES, dtype=bool),
    "some": np.arange(N_GENES) % 3 != 1,
    "none": np.zeros(N_GENES, dtype=bool),
    "of each cell others": RNG.random((N_CELLS, N_GENES)) < 0.7,
}


def per_thousand(x):
    """log1p of counts per 1,000 of that of counts per 10,000."""
    return np.log(1.0 + (np.exp(x) - 1.0) / 10.0)


def dense(x, measured):
    return (np.minimum(per_thousand(x), CAP) - CENTRE) * measured @ WEIGHTS + BIAS


def ragged(x):
    """Shown genes of each cell, then padding: gene 0 with value 0."""
    width = int((x > 0).sum(1).max(initial=0))
    genes, values = np.zeros((len(x), width), dtype=np.int64), np.zeros((len(x), width), dtype=np.float32)
    for i, row in enumerate(x):
        shown = np.flatnonzero(row)
        genes[i, : len(shown)], values[i, : len(shown)] = shown, row[shown]
    return torch.from_numpy(genes), torch.from_numpy(values)


def loaded(n_fitted=N_GENES):
    path = LinearPath(N_GENES, N_CATEGORIES)
    path.load(WEIGHTS[:n_fitted], BIAS, CAP[:n_fitted], CENTRE[:n_fitted])
    return path


def run(path, x, measured):
    return path(*ragged(x), torch.from_numpy(np.asarray(measured))).numpy()


@pytest.mark.parametrize("measured", MEASURED.values(), ids=MEASURED)
def test_is_the_dense_one_liner(measured):
    assert (per_thousand(X) > CAP).any()
    found = run(loaded(), X * measured, measured)
    assert found.shape == (N_CELLS, N_CATEGORIES)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, dense(X, measured), rtol=1e-4, atol=1e-4)


def test_by_hand():
    """Of 10,000 counts 200 are 20 of 1,000: log 21 counts as its cap 2, less the mean 0.5: 1.5 times 4.

    And -1 for the gene that is not expressed.
    """
    path = LinearPath(2, 1)
    path.load(np.array([[4.0], [1.0]]), np.array([10.0]), np.array([2.0, 9.0]), np.array([0.5, 1.0]))
    found = path(torch.tensor([[0]]), torch.tensor([[201.0]]).log(), torch.tensor([True, True]))
    assert found.item() == pytest.approx(15.0)


@pytest.mark.parametrize("name", ["some", "of each cell others"])
def test_an_unmeasured_gene_is_an_average_one(name):
    """As if its mean had been measured; which is not the same as if it were not expressed."""
    measured = MEASURED[name]
    found, path = run(loaded(), X * measured, measured), loaded()
    filled = np.where(measured, X, np.log1p(10.0 * np.expm1(CENTRE)))
    np.testing.assert_allclose(found, run(path, filled, MEASURED["all"]), rtol=1e-4, atol=1e-4)
    assert np.abs(found - run(path, X * measured, MEASURED["all"])).max() > 0.1


@pytest.mark.parametrize("name", MEASURED)
def test_no_cell_shows_a_gene(name):
    measured = MEASURED[name]
    silent = np.zeros((N_CELLS, N_GENES))
    found = run(loaded(), silent, measured)
    assert found.shape == (N_CELLS, N_CATEGORIES)
    np.testing.assert_allclose(found, dense(silent, measured), rtol=1e-4, atol=1e-4)


def test_no_cells():
    assert run(loaded(), X[:0], MEASURED["all"]).shape == (0, N_CATEGORIES)
    assert run(loaded(), X[:0], MEASURED["of each cell others"][:0]).shape == (0, N_CATEGORIES)


def test_a_cell_alone_is_the_cell_among_others():
    whole, measured = run(loaded(), X, MEASURED["all"]), MEASURED["all"]
    for i in range(N_CELLS):
        np.testing.assert_allclose(run(loaded(), X[[i]], measured)[0], whole[i], rtol=1e-5, atol=1e-5)


PRIOR, USUAL, SLOPES = RNG.normal(size=N_CATEGORIES), 0.8 * RNG.random(N_GENES), np.array([0.0, 0.0, 0.7, 0.7, 1.0])


def of_depth():
    """A path that is less certain about shallow cells."""
    path = LinearPath(N_GENES, N_CATEGORIES)
    path.load(WEIGHTS, BIAS, CAP, CENTRE, PRIOR)
    path.set_depth(USUAL, SLOPES)
    return path


@pytest.mark.parametrize("name", MEASURED)
def test_shallow_cells_are_less_certain(name):
    """The dense one-liner; cells with as many genes as usual are not changed."""
    measured = MEASURED[name]
    x = X * measured
    below = (np.broadcast_to(measured, X.shape) * USUAL).sum(1)
    factor = np.minimum((x > 0).sum(1) / np.maximum(below, 1e-8), 1.0)[:, None] ** SLOPES
    if name != "none":
        assert 0 < (factor < 1).any(axis=1).sum() < N_CELLS
    expected = PRIOR + factor * (dense(x, measured) - PRIOR)
    np.testing.assert_allclose(run(of_depth(), x, measured), expected, rtol=1e-4, atol=1e-4)
    values, there = ragged(x)[1], torch.from_numpy(measured)
    np.testing.assert_allclose(of_depth().certainty(values, there), factor, rtol=1e-5)
    np.testing.assert_allclose(of_depth().relative_depth(values, there), factor[:, -1], rtol=1e-5)


def test_without_slopes_nothing_is_changed():
    path = of_depth()
    path.forget_depth()
    assert np.array_equal(run(path, X, MEASURED["all"]), run(loaded(), X, MEASURED["all"]))


@pytest.mark.parametrize("n_fitted", [1, 13])
def test_genes_that_nothing_was_fitted_to_count_as_nothing(n_fitted):
    """Also where more had been loaded before."""
    path, first = loaded(), np.arange(N_GENES) < n_fitted
    path.load(WEIGHTS[:n_fitted], BIAS, CAP[:n_fitted], CENTRE[:n_fitted])
    for name, buffer in loaded(n_fitted).named_buffers():
        if name != "cap":
            assert torch.equal(buffer, getattr(path, name)), name
    np.testing.assert_allclose(run(path, X, MEASURED["all"]), dense(X, first), rtol=1e-4, atol=1e-4)


def test_nothing_is_said_at_first():
    assert not run(LinearPath(N_GENES, N_CATEGORIES), X, MEASURED["all"]).any()


def test_what_was_loaded_is_a_copy_and_is_saved():
    weights, path = WEIGHTS.copy(), LinearPath(N_GENES, N_CATEGORIES)
    path.load(weights, BIAS, CAP, CENTRE)
    before = run(path, X, MEASURED["all"])
    weights[:] = 0.0
    other = LinearPath(N_GENES, N_CATEGORIES)
    other.load_state_dict(path.state_dict())
    np.testing.assert_array_equal(run(other, X, MEASURED["all"]), before)
    assert set(path.state_dict()) == {
        "weights",
        "bias",
        "cap",
        "centre",
        "prior",
        "usual",
        "slopes",
        "ranks",
        "share_read",
    }
    assert not list(path.parameters())


def test_the_dtype_of_what_is_loaded_does_not_matter():
    path = LinearPath(N_GENES, N_CATEGORIES)
    path.load(*(a.astype(np.float32) for a in (WEIGHTS, BIAS, CAP, CENTRE)))
    for name, buffer in loaded().named_buffers():
        assert buffer.dtype == (torch.int64 if name == "ranks" else torch.float32)
        assert torch.equal(buffer, getattr(path, name)), name


def test_the_limit_ranks_genes_by_importance_and_those_without_last():
    """Equal genes by their number, so that ranks are unique."""
    path = LinearPath(5, 2)
    assert float(path.share_read) == 1.0
    path.limit(0.5, np.array([0.1, 0.7, 0.1, 0.9]))
    assert path.ranks.tolist() == [2, 3, 1, 4, 0]
    path.limit(0.25)
    assert (float(path.share_read), path.ranks.tolist()) == (0.25, [2, 3, 1, 4, 0])


@pytest.mark.parametrize(
    ("share", "expected"),
    [(1.0, [0, 1, 32, 33, 65, 1000]), (0.5, [0, 1, 32, 32, 33, 500]), (0.0, [0, 1, 32, 32, 32, 32])],
)
def test_at_least_32_genes_are_read(share, expected):
    path = LinearPath(5, 2)
    path.limit(share)
    assert path.n_read(torch.tensor([0, 1, 32, 33, 65, 1000])).tolist() == expected


def test_a_path_saved_without_a_limit_has_none():
    path, other = loaded(), loaded()
    path.limit(0.5, np.arange(N_GENES))
    weights = {name: value for name, value in path.state_dict().items() if name not in OPTIONAL}
    for share in (1.0, 0.25):
        other.limit(share)
        other.load_state_dict(weights)
        assert float(other.share_read) == 1.0
    other.load_state_dict(path.state_dict())
    assert float(other.share_read) == 0.5
    assert torch.equal(other.ranks, path.ranks)
