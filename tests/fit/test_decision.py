"""The rule that chooses a category; in `model` it is asked for by the user."""

import numpy as np
import pytest
import torch

from polygene_scverse._constants import BALANCE
from polygene_scverse.fit._decision import check_balance, choose_category


def drawn(n=200, k=4):
    rng = np.random.default_rng(0)
    return rng.dirichlet([0.5] * k, size=n), rng.dirichlet([0.5] * k)


@pytest.mark.parametrize("balance", [0.0, 0.3, 0.5, 1.0])
def test_is_the_category_of_the_largest_ratio(balance):
    p, shares = drawn()
    expected = (p / shares**balance).argmax(1)
    np.testing.assert_array_equal(choose_category(np.log(p), np.log(shares), balance), expected)
    of_torch = choose_category(torch.from_numpy(p).log(), torch.from_numpy(shares).log(), balance)
    np.testing.assert_array_equal(of_torch, expected)


def test_the_usual_balance():
    p, shares = (np.log(part) for part in drawn())
    np.testing.assert_array_equal(choose_category(p, shares), choose_category(p, shares, BALANCE))


def test_balance_favours_the_rare():
    p, shares = np.log([[0.6, 0.35, 0.05]]), np.log([0.9, 0.09, 0.01])
    assert [choose_category(p, shares, b)[0] for b in (0, 0.5, 1)] == [0, 1, 2]


@pytest.mark.parametrize("temperature", [1.0, 3.0, 20.0])
def test_flatter_probabilities_do_not_let_the_shares_decide(temperature):
    """Above 1 the choice is that of the logits themselves; else flat ones would all become the rarest category."""
    p, shares = (np.log(part) for part in drawn())
    logits = p / temperature
    found = choose_category(logits - np.logaddexp.reduce(logits, axis=1)[:, None], shares, 0.5, temperature)
    np.testing.assert_array_equal(found, choose_category(p, shares, 0.5))


def test_sharper_probabilities_are_weighed_as_they_are():
    p, shares = (np.log(part) for part in drawn())
    np.testing.assert_array_equal(choose_category(p, shares, 0.5, 0.3), choose_category(p, shares, 0.5))


@pytest.mark.parametrize("balance", [0.0, 0.5, 1.0, 1])
def test_a_balance_in_range(balance):
    check_balance(balance)


@pytest.mark.parametrize("balance", [-0.1, 1.1, float("nan")])
def test_refuses_a_balance_out_of_range(balance):
    with pytest.raises(ValueError, match=r"`balance`: found .* between 0 \(most probable\) and 1 \(balanced\)"):
        check_balance(balance)
