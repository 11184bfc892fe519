"""The loss of a batch: its parts, what it is divided by, and what is left out of it."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from polygene_scverse._layout import TokenLayout
from polygene_scverse.data.feed._masking import MaskingRates, draw
from polygene_scverse.module import LossConfig, PolygeneModule

N_CELLS, N_BINS = 7, 5


def test_loss_is_the_sum_of_its_parts(kit):
    module, batch = kit.random_module(phenotype_weight=2.5), kit.train_batch()
    output = kit.loss_of(module, batch)
    parts = output.extra_metrics
    expected = parts["gene_loss"] + 2.5 * parts["phenotype_loss"]
    torch.testing.assert_close(output.loss.detach(), expected)


def test_losses_are_means_over_targets_and_over_hidden_known_values(kit):
    module, batch = kit.random_module(label_smoothing=0.2, bin_width=0.0), kit.train_batch()
    logits, parts = kit.run(module, batch), kit.loss_of(module, batch).extra_metrics
    known = batch["target_bins"] >= 0
    shifted = logits["gene_logits"].clone()
    shifted[..., 0] += batch["zero_offset"][:, None]
    genes = F.cross_entropy(shifted[known], batch["target_bins"][known])
    torch.testing.assert_close(parts["gene_loss"], genes.detach())
    asked = torch.where(batch["phenotype_hidden"], batch["phenotypes"], -1)
    assert (asked >= 0).any(0).all()
    phenotypes = [
        F.cross_entropy(x, asked[:, i], ignore_index=-1, label_smoothing=0.2)
        for i, x in enumerate(logits["phenotype_logits"])
    ]
    torch.testing.assert_close(parts["phenotype_loss"], torch.stack(phenotypes).mean().detach())


def test_loss_output_keeps_a_loss_per_cell(kit):
    output = kit.loss_of(kit.random_module(), kit.train_batch())
    per_cell = output.reconstruction_loss["reconstruction_loss"]
    assert per_cell.shape == (N_CELLS,)
    torch.testing.assert_close(per_cell.mean(), output.loss)
    torch.testing.assert_close(output.reconstruction_loss_sum, per_cell.sum())
    assert output.n_obs_minibatch == N_CELLS


def test_count_targets_by_hand(kit):
    batch = {
        "target_bins": torch.tensor([[0, 3, -1], [2, -1, -1]]),
        "phenotypes": torch.tensor([[0, -1], [2, 1]]),
        "phenotype_hidden": torch.tensor([[True, True], [False, True]]),
    }
    assert kit.random_module().count_targets(batch).tolist() == [3, 1, 1]


def test_parts_with_global_denominators_average_to_the_whole(kit):
    """What two processes do, or two steps of accumulated gradients."""
    cells, codes = kit.random_cells(), kit.random_codes()
    codes[:3, 0] = -1
    whole, parts = kit.random_module(), kit.random_module()
    counts = whole.count_targets(kit.torch_batch(cells, kit.drawn(cells), codes)).float()
    kit.loss_of(whole, kit.torch_batch(cells, kit.drawn(cells), codes)).loss.backward()
    for rows in (np.arange(2), np.arange(2, N_CELLS)):
        part = cells.take(rows)
        masking = draw(part, rows, kit.measured, 2, kit.rates, seed=0, epoch=0)
        (kit.loss_of(parts, kit.torch_batch(part, masking, codes[rows]), denominators=counts / 2).loss / 2).backward()
    for (name, a), b in zip(whole.named_parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, atol=1e-5, rtol=1e-5, msg=name)


@pytest.mark.parametrize("n_cells", [1, N_CELLS])
def test_nothing_to_learn_gives_zero_loss_and_finite_gradients(kit, n_cells):
    """No known phenotype and no gene target; every parameter stays in the graph, as ddp needs it."""
    rates = MaskingRates(expressed=0.0, gene_dropout=0.0)
    batch = kit.train_batch(n_cells, codes=np.full((n_cells, 2), -1), rates=rates)
    assert batch["target_bins"].shape == (n_cells, 0)
    module = kit.random_module()
    output = kit.loss_of(module, batch)
    output.loss.backward()
    assert output.loss == 0
    assert all(p.grad is not None and not p.grad.any() for p in module.parameters())


def test_an_unknown_phenotype_leaves_the_loss_of_the_other(kit):
    codes = kit.random_codes()
    codes[:, 0] = -1
    batch = kit.train_batch(codes=codes)
    module = kit.random_module()
    output = kit.loss_of(module, batch)
    output.loss.backward()
    assert torch.isfinite(output.loss)
    assert not module.head.bias.grad[list(kit.layout.phenotypes[0].ids)].any()
    assert module.head.bias.grad[list(kit.layout.phenotypes[1].ids)].any()


def test_smoothing_stays_within_a_phenotype(kit):
    """Only the words of a slot's own phenotype are pushed up or down by its loss."""
    codes = kit.random_codes()
    codes[:, 1] = -1
    module = kit.random_module(label_smoothing=0.5)
    kit.loss_of(
        module, kit.train_batch(codes=codes, rates=MaskingRates(expressed=0.0, gene_dropout=0.0))
    ).loss.backward()
    touched = set(module.head.bias.grad.nonzero().flatten().tolist())
    assert touched == set(kit.layout.phenotypes[0].ids)


def test_genes_push_the_words_of_bins_only(kit):
    module = kit.random_module(bin_width=2.0)
    kit.loss_of(module, kit.train_batch(codes=np.full((N_CELLS, 2), -1))).loss.backward()
    first = kit.layout.first_bin_id
    assert set(module.head.bias.grad.nonzero().flatten().tolist()) == set(range(first, first + N_BINS))


@pytest.mark.parametrize("not_expressed", ["match", 0.15], ids=["match", "rate"])
def test_sampled_targets_recover_the_zero_fraction(kit, not_expressed):
    """Fit one bias to the targets of many cells: it must know the share of genes that are not expressed."""
    n_cells, n_genes = 101, 997
    layout = TokenLayout.build({"fate": ["a", "b"]}, [f"g{i}" for i in range(n_genes)], N_BINS)
    cells = kit.random_cells(n_cells, n_genes, density=0.1)
    rates = MaskingRates(expressed=0.3, not_expressed=not_expressed)
    masking = draw(cells, np.arange(n_cells), np.ones(n_genes, dtype=bool), 1, rates, seed=0, epoch=0)
    batch = kit.torch_batch(cells, masking, np.zeros((n_cells, 1), dtype=int), layout)
    module = PolygeneModule(layout, kit.sizes, LossConfig(bin_width=0.0))
    bias = torch.zeros(N_BINS, requires_grad=True)
    optimizer = torch.optim.LBFGS([bias], max_iter=50, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        logits = {
            "gene_logits": bias.expand(*batch["target_bins"].shape, -1),
            "phenotype_logits": [torch.zeros(n_cells, 2)],
        }
        loss = module.loss(batch, {}, logits).loss
        loss.backward()
        return loss

    optimizer.step(closure)
    zero_fraction = 1 - cells.lengths.sum() / (n_cells * n_genes)
    assert bias.softmax(0)[0].item() == pytest.approx(zero_fraction, abs=0.005)
    sampled = (batch["target_bins"] == 0).sum() / (batch["target_bins"] >= 0).sum()
    assert abs(sampled - zero_fraction) > 0.05
