import numpy as np
import pytest

from polygene_scverse.fit._kinds import LEVELS, cell_counts, cell_depths, fit_kinds

CODES = np.array([[0, 0]] * 30 + [[0, 1]] * 10 + [[1, 1]] * 60 + [[1, -1]] * 5)
COUNTS = [np.array([40.0, 65.0]), np.array([30.0, 70.0])]


def expression(depths, seed=0):
    """Cells of 30 genes that hold one count of one gene at least; the rest of the total is of other genes."""
    counts = np.random.default_rng(seed).integers(1, 6, (len(depths), 30))
    counts[:, 0] = 1
    values = np.log1p(1e4 * counts / np.asarray(depths)[:, None]).astype(np.float32)
    return np.arange(len(depths) + 1) * 30, values.ravel()


def kinds(depths=None):
    depths = np.where(CODES[:, 0] == 0, 1000, 4000) if depths is None else depths
    return fit_kinds(CODES, CODES, *expression(depths), [2, 2])


def draws(n, seed=0):
    return np.random.default_rng(seed).random((n, 3))


def test_combinations_are_counted():
    found = kinds()
    np.testing.assert_array_equal(found.codes, [[0, 0], [0, 1], [1, -1], [1, 1]])
    np.testing.assert_array_equal(found.n_cells, [30, 10, 5, 60])


def test_what_is_not_given_is_drawn_as_often_as_cells_with_the_given_have_it():
    codes, seen = kinds().complete(np.full((4000, 2), [0, -1]), COUNTS, draws(4000))
    assert seen.all()
    assert (codes[:, 0] == 0).all()
    assert codes[:, 1].mean() == pytest.approx(0.25, abs=0.03)
    codes, _ = kinds().complete(np.full((4000, 2), -1), COUNTS, draws(4000))
    assert (codes == [1, 1]).all(1).mean() == pytest.approx(0.6, abs=0.03)
    assert not (codes == [1, 0]).all(1).any()


def test_what_no_cell_had_is_told():
    wanted = np.array([[1, 0], [0, 0], [1, 1], [-1, 0]])
    codes, seen = kinds().complete(wanted, COUNTS, draws(4))
    np.testing.assert_array_equal(seen, [False, True, True, True])
    np.testing.assert_array_equal(codes, [[1, 0], [0, 0], [1, 1], [0, 0]])


def test_where_no_such_cell_knows_the_others_each_is_drawn_alone():
    codes = np.array([[0, 0], [1, -1]])
    found = fit_kinds(codes, codes, *expression([100, 100]), [2, 2])
    drawn, seen = found.complete(np.full((2000, 2), [1, -1]), COUNTS, draws(2000))
    assert seen.all()
    assert drawn[:, 1].mean() == pytest.approx(0.7, abs=0.04)


def test_depths_are_told_by_the_lowest_value():
    depths = np.array([500.0, 2345.0, 30000.0])
    np.testing.assert_allclose(cell_depths(*expression(depths)), depths, rtol=1e-3)
    values = np.random.default_rng(0).random(60).astype(np.float32)  # no counts
    assert np.isnan(cell_depths(np.array([0, 30, 60]), values)).all()
    assert np.isnan(cell_depths(np.array([0, 1, 1]), np.ones(1, np.float32))).all()


def test_counts_come_back():
    depths = np.array([300.0, 5000.0, 80.0])
    indptr, values = expression(depths)
    counts = np.random.default_rng(0).integers(1, 6, (3, 30))
    counts[:, 0] = 1
    np.testing.assert_array_equal(cell_counts(indptr, values, depths), counts.ravel())


def test_depths_are_those_of_the_categories():
    found = kinds()
    first = found.depths(np.zeros((500, 2), dtype=int), [2, 2], draws(500)[:, 0])
    second = found.depths(np.ones((500, 2), dtype=int), [2, 2], draws(500)[:, 0])
    assert np.median(second) > 2 * np.median(first)
    assert (first >= 1).all()


def test_quantiles_of_one_phenotype_come_back():
    depths = np.random.default_rng(0).integers(300, 9000, len(CODES))
    found = fit_kinds(CODES[:, :1], CODES[:, :1], *expression(depths), [2])
    drawn = found.depths(np.ones((3000, 1), dtype=int), [2], draws(3000)[:, 0])
    levels = [0.1, 0.5, 0.9]
    np.testing.assert_allclose(np.quantile(drawn, levels), np.quantile(depths[CODES[:, 0] == 1], levels), rtol=0.1)


def test_no_counts_no_depths():
    values = np.random.default_rng(0).random(len(CODES) * 30).astype(np.float32)
    found = fit_kinds(CODES, CODES, np.arange(len(CODES) + 1) * 30, values, [2, 2])
    assert found.log_depths.shape == (0, len(LEVELS))
