"""Shapes that a configuration implies, without a network."""

import pytest

from polygene_scverse._layout import TokenLayout
from polygene_scverse.model._folder_checks import implied_weights
from polygene_scverse.module import PolygeneModule, TransformerConfig


@pytest.mark.parametrize("n_layers", [0, 1, 3])
@pytest.mark.parametrize("linear_path", [True, False])
@pytest.mark.parametrize("gene_decoder", [True, False])
def test_shapes_are_those_of_the_network(n_layers, linear_path, gene_decoder):
    layout = TokenLayout.build({"cell_type": ["a", "b"], "sex": ["f", "m"]}, ["g1", "g2", "g3"], 4)
    config = TransformerConfig(n_hidden=8, n_layers=n_layers, n_heads=2, n_intermediate=12)
    parts = {"linear_path": linear_path, "gene_decoder": gene_decoder}
    made = PolygeneModule(layout, config, **parts).state_dict()
    implied = implied_weights(layout, config, **parts)
    assert {n: (w.shape, w.dtype) for n, w in implied.items()} == {n: (w.shape, w.dtype) for n, w in made.items()}
    assert all(weight.is_meta for weight in implied.values())


def test_shapes_take_no_memory():
    layout = TokenLayout.build({"cell_type": ["a", "b"]}, ["g1"], 4)
    config = TransformerConfig(n_hidden=10**9, n_layers=2, n_heads=1, n_intermediate=10**9)
    weights = implied_weights(layout, config, linear_path=True, gene_decoder=False)
    assert weights["encoder.blocks.1.up.weight"].shape == (10**9, 10**9)
