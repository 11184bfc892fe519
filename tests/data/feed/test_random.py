import numpy as np
import pytest
from scipy import stats

from polygene_scverse.data.feed._random import cell_keys, scramble, uniform

GAMMA = 0x9E3779B97F4A7C15
N = 20_000


@pytest.mark.parametrize(
    ("seed", "numbers"),
    [
        (0, [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F, 0xF88BB8A8724C81EC]),
        (1234567, [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]),
    ],
)
def test_scramble_is_splitmix64(seed, numbers):
    """The n-th number of SplitMix64 from a seed, as published with xoshiro and at Rosetta Code."""
    states = np.array([(seed + n * GAMMA) % 2**64 for n in range(4)], dtype=np.uint64)
    np.testing.assert_array_equal(scramble(states), np.array(numbers, dtype=np.uint64))


def test_scramble_leaves_its_argument_alone():
    z = np.arange(3, dtype=np.uint64)
    scramble(z)
    np.testing.assert_array_equal(z, [0, 1, 2])


@pytest.mark.parametrize("axis", ["seed", "epoch", "cell", "stream", "index"])
def test_numbers_are_uniform_along(axis):
    """Kolmogorov-Smirnov, and no correlation of neighbours."""
    many, one = np.arange(N), np.zeros(1, dtype=int)
    if axis == "seed":
        draws = np.concatenate([uniform(cell_keys(seed, 0, one), 0) for seed in range(2000)])
    elif axis == "epoch":
        draws = np.concatenate([uniform(cell_keys(0, epoch, one), 0) for epoch in range(2000)])
    elif axis == "cell":
        draws = uniform(cell_keys(0, 0, many), 0)
    elif axis == "stream":
        draws = np.concatenate([uniform(cell_keys(0, 0, one), stream) for stream in range(2000)])
    else:
        draws = uniform(cell_keys(0, 0, one), 0, many)
    assert draws.min() >= 0
    assert draws.max() < 1
    assert stats.kstest(draws, "uniform").pvalue > 0.01
    assert abs(np.corrcoef(draws[:-1], draws[1:])[0, 1]) < 4 / np.sqrt(len(draws))


@pytest.mark.parametrize("changed", [(1, 0, 0), (0, 1, 0), (0, 0, 1)], ids=["seed", "epoch", "stream"])
def test_numbers_are_independent_of_those_with_another(changed):
    cells = np.arange(N)
    a = uniform(cell_keys(0, 0, cells), 0)
    b = uniform(cell_keys(changed[0], changed[1], cells), changed[2])
    assert abs(np.corrcoef(a, b)[0, 1]) < 4 / np.sqrt(N)


def test_a_cell_has_its_numbers_in_any_company():
    alone = uniform(cell_keys(3, 5, np.array([7])), 2, np.arange(4))
    together = uniform(cell_keys(3, 5, np.array([9, 7, 1]))[:, None], 2, np.arange(4))
    np.testing.assert_array_equal(together[1], alone)


def test_index_is_broadcast_against_keys():
    keys = cell_keys(0, 0, np.arange(3))
    assert uniform(keys, 0).shape == (3,)
    assert uniform(keys[:, None], 0, np.arange(5)).shape == (3, 5)
    assert uniform(keys[:, None], 0, np.arange(0)).shape == (3, 0)
