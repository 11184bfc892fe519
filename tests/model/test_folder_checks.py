"""Shapes that a configuration implies, without a network."""

import pytest

from polygene_scverse._layout import TokenLayout
from polygene_scverse.model._folder_checks import implied_shapes
from polygene_scverse.module import PolygeneModule, TransformerConfig


@pytest.mark.parametrize("n_layers", [0, 1, 3])
@pytest.mark.parametrize("linear_path", [True, False])
def test_shapes_are_those_of_the_network(n_layers, linear_path):
    layout = TokenLayout.build({"cell_type": ["a", "b"], "sex": ["f", "m"]}, ["g1", "g2", "g3"], 4)
    config = TransformerConfig(n_hidden=8, n_layers=n_layers, n_heads=2, n_intermediate=12)
    module = PolygeneModule(layout, config, linear_path=linear_path)
    made = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    assert implied_shapes(layout, config, linear_path) == made


def test_shapes_take_no_memory():
    layout = TokenLayout.build({"cell_type": ["a", "b"]}, ["g1"], 4)
    config = TransformerConfig(n_hidden=10**9, n_layers=2, n_heads=1, n_intermediate=10**9)
    assert implied_shapes(layout, config, True)["encoder.blocks.1.up.weight"] == (10**9, 10**9)
