"""The ragged batch against the dense one, and that nothing hidden is seen."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from polygene_scverse._layout import MASK
from polygene_scverse.data.feed._masking import ask, draw
from polygene_scverse.data.read._tokens import Cells

NO_GENES = np.zeros(0, dtype=np.int64)
N_CELLS, N_BINS = 7, 5


def dense_batch(layout, cells, batch):
    """The original's batch: every slot in order, whose tokens are seen unless hidden or of bin 0."""
    n = len(cells)
    positions = torch.arange(layout.length).expand(n, -1)
    tokens = torch.full((n, layout.length), layout.first_bin_id)
    rows = np.repeat(np.arange(n), cells.lengths)
    tokens[rows, layout.first_gene_position + cells.genes] += torch.from_numpy(cells.bins.astype(np.int64))
    specials = torch.from_numpy(layout.special_positions)
    tokens[:, specials] = batch["tokens"][:, : layout.n_special]
    n_keys = batch["key_mask"].shape[1]
    for cell, slot, known in zip(range(n), batch["positions"][:, n_keys:], batch["target_bins"] >= 0, strict=True):
        tokens[cell, slot[known]] = MASK
    visible = tokens != layout.first_bin_id
    visible[:, layout.first_gene_position : -1] &= tokens[:, layout.first_gene_position : -1] != MASK
    return tokens, positions, visible


def present(batch):
    """Which columns of a ragged batch hold a token."""
    return torch.cat([batch["key_mask"], batch["target_bins"] >= 0], dim=1)


@pytest.mark.parametrize(("std", "tolerance"), [(0.02, 1e-5), (0.3, 1e-4)], ids=["std 0.02", "std 0.3"])
def test_dense_equals_sparse(kit, std, tolerance):
    module, cells = kit.random_module(std), kit.random_cells()
    batch = kit.torch_batch(cells, kit.drawn(cells), kit.random_codes())
    with torch.no_grad():
        sparse = module.states(batch["tokens"], batch["positions"], batch["key_mask"])
        dense = module.states(*dense_batch(kit.layout, cells, batch))
        dense = dense.gather(1, batch["positions"][..., None].expand(-1, -1, kit.sizes.n_hidden))
        word = module.encoder.embeddings.word.weight
        logits = [module.head(module.head.transform(x), word, slice(None)) for x in (sparse, dense)]
    tokens = present(batch)
    assert tokens.sum() < N_CELLS * kit.layout.length * 0.8
    assert (sparse - dense)[tokens].abs().max() < tolerance
    assert (logits[0] - logits[1])[tokens].abs().max() < tolerance


@pytest.mark.parametrize("std", [0.02, 0.3], ids=["std 0.02", "std 0.3"])
def test_dense_and_sparse_gradients_are_equal(kit, std):
    cells = kit.random_cells()
    batch = kit.torch_batch(cells, kit.drawn(cells), kit.random_codes())
    sparse, dense = kit.random_module(std), kit.random_module(std)
    kit.loss_of(sparse, batch).loss.backward()
    tokens, positions, visible = dense_batch(kit.layout, cells, batch)
    hidden = dense.states(tokens, positions, visible)
    p, n_keys = kit.layout.n_phenotypes, batch["key_mask"].shape[1]
    asked = torch.cat([batch["positions"][:, 1 : 1 + p], batch["positions"][:, n_keys:]], dim=1)
    genes = (batch["positions"][:, n_keys:] - kit.layout.first_gene_position).clamp(min=0)
    context = dense.gene_context(hidden[:, 0], tokens, visible, genes, batch["shown_share"])
    hidden = hidden.gather(1, asked[..., None].expand(-1, -1, kit.sizes.n_hidden))
    dense.loss(batch, {}, dense.generative(hidden, context)).loss.backward()
    for (name, a), b in zip(sparse.named_parameters(), dense.parameters(), strict=True):
        if name.endswith("key.bias"):  # softmax does not depend on it: rounding is all there is
            assert max(a.grad.abs().max(), b.grad.abs().max()) < 1e-5
        else:
            assert (a.grad - b.grad).abs().max() <= 1e-4 * b.grad.abs().max(), name


def test_asked_states_equal_the_full_computation(kit):
    module, batch = kit.random_module(), kit.train_batch()
    with torch.no_grad():
        full = module.states(batch["tokens"], batch["positions"], batch["key_mask"])
        hidden = module.inference(**module._get_inference_input(batch))["hidden"]
        slots = module.states(batch["tokens"], batch["positions"], batch["key_mask"], [0, 2])
    n_keys = batch["key_mask"].shape[1]
    torch.testing.assert_close(hidden, torch.cat([full[:, 1:3], full[:, n_keys:]], 1), atol=1e-5, rtol=0)
    torch.testing.assert_close(slots, full[:, [0, 2]], atol=1e-5, rtol=0)


def test_a_cell_alone_equals_the_cell_in_a_batch(kit):
    """Padding never matters: neither of visible genes nor of targets."""
    module, cells, codes = kit.random_module(), kit.random_cells(), kit.random_codes()
    together = kit.run(module, kit.torch_batch(cells, kit.drawn(cells), codes))
    for i in range(N_CELLS):
        cell = cells.take(np.array([i]))
        masking = draw(cell, np.array([i]), kit.measured, 2, kit.rates, seed=0, epoch=0)
        alone = kit.run(module, kit.torch_batch(cell, masking, codes[[i]]))
        n_targets = alone["gene_logits"].shape[1]
        torch.testing.assert_close(alone["gene_logits"][0], together["gene_logits"][i, :n_targets], atol=1e-5, rtol=0)
        for a, b in zip(alone["phenotype_logits"], together["phenotype_logits"], strict=True):
            torch.testing.assert_close(a[0], b[i], atol=1e-5, rtol=0)


# no leak


def hide(cells, cell_of_gene, gene):
    """Show all but one expressed gene of a cell, which becomes a target."""
    masking = ask(cells, NO_GENES, np.ones((len(cells), 2), dtype=bool))
    target = (np.repeat(np.arange(len(cells)), cells.lengths) == cell_of_gene) & (cells.genes == gene)
    assert target.sum() == 1
    return replace(masking, visible=~target, target=target)


def test_the_bin_of_a_target_changes_nothing_but_the_loss(kit):
    module, cells = kit.random_module(), kit.random_cells()
    masking = hide(cells, 2, cells.genes[cells.indptr[2]])
    batches = []
    for value in (1, 2, N_BINS - 1):
        bins = np.where(masking.target, value, cells.bins).astype(np.int16)
        batches.append(
            kit.torch_batch(Cells(cells.indptr, cells.genes, bins, cells.values), masking, kit.random_codes())
        )
    outputs = [kit.run(module, batch) for batch in batches]
    for other in outputs[1:]:
        assert torch.equal(outputs[0]["gene_logits"], other["gene_logits"])
        for a, b in zip(outputs[0]["phenotype_logits"], other["phenotype_logits"], strict=True):
            assert torch.equal(a, b)
    losses = {module.loss(b, {}, o).loss.item() for b, o in zip(batches, outputs, strict=True)}
    assert len(losses) == 3


def test_whether_a_target_is_expressed_changes_nothing_but_the_loss(kit):
    """Bin 0 instead of 5: the gene leaves the expressed ones and is a target among the not-expressed ones."""
    module, cells = kit.random_module(), kit.random_cells()
    gene = cells.genes[cells.indptr[2]]
    masking = hide(cells, 2, gene)
    expressed = kit.torch_batch(cells, masking, kit.random_codes())
    keep = ~masking.target
    indptr = cells.indptr - (np.arange(N_CELLS + 1) > 2)
    without = Cells(indptr, cells.genes[keep], cells.bins[keep], cells.values[keep])
    shown = np.ones(keep.sum(), dtype=bool)
    zero = replace(masking, visible=shown, target=~shown, zero_rows=np.array([2]), zero_genes=np.array([gene]))
    absent = kit.torch_batch(without, zero, kit.random_codes())
    for name in ("tokens", "positions", "key_mask", "values"):
        assert torch.equal(expressed[name], absent[name]), name
    a, b = kit.run(module, expressed), kit.run(module, absent)
    assert torch.equal(a["gene_logits"], b["gene_logits"])
    assert all(map(torch.equal, a["phenotype_logits"], b["phenotype_logits"]))
    assert module.loss(expressed, {}, a).loss != module.loss(absent, {}, b).loss


def test_a_hidden_phenotype_changes_nothing_but_the_loss(kit):
    module, cells = kit.random_module(), kit.random_cells()
    codes = kit.random_codes()
    other = codes.copy()
    other[:, 0] = (codes[:, 0] + 1) % 3
    masking = ask(cells, NO_GENES, np.tile([True, False], (N_CELLS, 1)))
    a, b = (kit.run(module, kit.torch_batch(cells, masking, c)) for c in (codes, other))
    assert all(map(torch.equal, a["phenotype_logits"], b["phenotype_logits"]))


def test_a_shown_phenotype_is_evidence_for_the_others(kit):
    module, cells = kit.random_module(), kit.random_cells()
    codes = kit.random_codes()
    other = codes.copy()
    other[:, 0] = (codes[:, 0] + 1) % 3
    masking = ask(cells, NO_GENES, np.tile([False, True], (N_CELLS, 1)))
    a, b = (kit.run(module, kit.torch_batch(cells, masking, c)) for c in (codes, other))
    assert (a["phenotype_logits"][1] - b["phenotype_logits"][1]).abs().min() > 0
