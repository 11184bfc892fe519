"""Arguments go to where the module computes, in evaluation."""

from typing import NamedTuple

import pytest
import torch
from torch import nn

from polygene_scverse.module._device import move_arguments


class Pair(NamedTuple):
    a: torch.Tensor
    b: int


class Echo(nn.Module):
    """Its one weight has no memory, so that everything that is moved loses its values."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, device="meta"))

    @move_arguments
    def echo(self, *args, **kwargs):
        """As they come."""
        return args, kwargs


@pytest.mark.parametrize(("training", "device"), [(False, "meta"), (True, "cpu")], ids=["evaluation", "training"])
def test_tensors_are_moved_alone_in_lists_and_in_tuples(training, device):
    x = torch.ones(2)
    (alone, several, pair, text), named = Echo().train(training).echo(x, [x, None], Pair(x, 3), "x", y=x)
    assert {t.device.type for t in (alone, several[0], pair.a, named["y"])} == {device}
    assert (several[1], pair.b, text) == (None, 3, "x")
    assert isinstance(pair, Pair)


def test_what_is_there_is_not_copied():
    module = nn.Linear(1, 1).eval()
    x = torch.ones(2)
    assert move_arguments(lambda self, x: x)(module, x) is x


def test_names_and_words_are_kept():
    assert Echo.echo.__name__ == "echo"
    assert Echo.echo.__doc__ == "As they come."
