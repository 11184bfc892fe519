import numpy as np
import pytest
import torch

from polygene_scverse.module._ordinal import RankedScore

VALUES = [5.0, 34.0, 0.5, 20.0, 80.0]


def closed_form(p, values, code):
    """E|X - y| - E|X - X'| / 2, another way to write the score (Gneiting and Raftery, eq. 21)."""
    x = np.asarray(values)
    return p @ np.abs(x - x[code]) - 0.5 * p @ np.abs(x[:, None] - x) @ p


def scale(values):
    k = len(values)
    return np.log(k) / np.mean([closed_form(np.full(k, 1 / k), values, c) for c in range(k)])


@pytest.mark.parametrize("values", [VALUES, [0.0, 1.0], [3.0, 3.0, 1.0]], ids=["ages", "two", "a tie"])
def test_as_the_closed_form(values):
    rng = np.random.default_rng(0)
    logits, codes = rng.normal(0, 2, (17, len(values))), rng.integers(0, len(values), 17)
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    expected = [scale(values) * closed_form(row, values, code) for row, code in zip(p, codes, strict=True)]
    score = RankedScore(values)(torch.tensor(logits), torch.tensor(codes))
    np.testing.assert_allclose(score, expected, rtol=1e-5)


def test_knowing_nothing_costs_as_much_as_in_cross_entropy():
    codes = torch.arange(5)
    assert RankedScore(VALUES)(torch.zeros(5, 5), codes).mean().item() == pytest.approx(np.log(5))


def test_far_is_worse_than_near():
    logits = 10 * torch.eye(5)[[3, 3, 3]]  # 20 is predicted; true are 20, 34, 80
    score = RankedScore(VALUES)(logits, torch.tensor([3, 1, 4]))
    assert score[0] < 0.01 < score[1] < score[2] / 3


def test_is_proper():
    """No other prediction has a lower expected score than the truth, and gradients vanish there."""
    rng, ranked = np.random.default_rng(1), RankedScore(VALUES)
    truth = rng.dirichlet(np.ones(5))
    logits = torch.tensor(np.log(truth), requires_grad=True)

    def expected(of):
        return (ranked(of.expand(5, 5), torch.arange(5)) * torch.tensor(truth)).sum()

    best = expected(logits)
    best.backward()
    assert logits.grad.abs().max().item() < 1e-6
    others = [expected(torch.tensor(np.log(rng.dirichlet(np.ones(5))))).item() for _ in range(50)]
    assert min(others) > best.item()


def test_unknown_categories_cost_nothing():
    logits = torch.randn(4, 5, generator=torch.Generator().manual_seed(0), requires_grad=True)
    score = RankedScore(VALUES)(logits, torch.tensor([-1, 2, -1, 0]))
    assert score[[0, 2]].tolist() == [0, 0]
    score.sum().backward()
    assert logits.grad[[0, 2]].abs().max() == 0
    assert logits.grad[[1, 3]].abs().max() > 0


def test_has_nothing_to_save():
    assert not RankedScore(VALUES).state_dict()


def test_one_value():
    with pytest.raises(ValueError, match="`values`: all categories stand at the same value"):
        RankedScore([2.0, 2.0])
