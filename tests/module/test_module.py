"""The module on ragged batches, its counts, seeds and first weights."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from polygene_scverse._layout import TokenLayout
from polygene_scverse.data.feed._masking import draw
from polygene_scverse.module import PolygeneModule

N_CELLS, N_BINS = 7, 5


def test_two_bins_are_trained(kit):
    layout = TokenLayout.build({"fate": ["a", "b"]}, kit.layout.genes, 2)
    cells = kit.random_cells(n_bins=2)
    masking = draw(cells, np.arange(N_CELLS), kit.measured, 1, kit.rates, seed=0, epoch=0)
    batch = kit.torch_batch(cells, masking, kit.random_codes()[:, :1] % 2, layout)
    module = kit.random_module(layout=layout)
    output = kit.loss_of(module, batch)
    assert kit.run(module, batch)["gene_logits"].shape[-1] == 2
    output.loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in module.parameters())


def test_shapes(kit):
    batch, module = kit.train_batch(), kit.random_module()
    n_targets = batch["target_bins"].shape[1]
    logits = kit.run(module, batch)
    assert logits["gene_logits"].shape == (N_CELLS, n_targets, N_BINS)
    assert [x.shape for x in logits["phenotype_logits"]] == [(N_CELLS, 3), (N_CELLS, 4)]


def test_seed_decides_the_first_weights_and_nothing_else_changes(kit):
    before = torch.get_rng_state()
    a, b, c = (PolygeneModule(kit.layout, kit.sizes, seed=seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not torch.equal(a["encoder.embeddings.word.weight"], c["encoder.embeddings.word.weight"])


def test_first_weights_have_the_spread_asked_for(kit):
    weight = PolygeneModule(kit.layout, replace(kit.sizes, init_std=0.1)).encoder.embeddings.word.weight
    assert weight.std().item() == pytest.approx(0.1, rel=0.15)


def test_sampling_is_refused(kit):
    with pytest.raises(NotImplementedError, match="The module draws no cells"):
        kit.random_module().sample()
