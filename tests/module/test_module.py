"""The module on ragged batches: 7 cells, 31 genes, 5 bins, phenotypes of 3 and 4 categories, 18 hidden."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from polygene_scverse._layout import MASK, TokenLayout
from polygene_scverse.data._batch import make_batch
from polygene_scverse.data._masking import MaskingRates, draw, show_all
from polygene_scverse.data._tokens import Cells
from polygene_scverse.module import LossConfig, PolygeneModule, TransformerConfig

N_CELLS, N_GENES, N_BINS = 7, 31, 5
LAYOUT = TokenLayout.build(
    {"fate": ["a", "b", "c"], "stage": ["1", "2", "3", "4"]}, [f"g{i}" for i in range(N_GENES)], N_BINS
)
S = LAYOUT.n_special
SIZES = TransformerConfig(n_hidden=18, n_layers=2, n_heads=3, n_intermediate=29, dropout=0.0)
RATES = MaskingRates(expressed=0.3, gene_dropout=0.0)
ALL_MEASURED = np.ones(N_GENES, dtype=bool)


def random_cells(n_cells=N_CELLS, n_genes=N_GENES, density=0.4, n_bins=N_BINS, seed=0):
    rng = np.random.default_rng(seed)
    expressed = rng.random((n_cells, n_genes)) < density
    indptr = np.concatenate([[0], np.cumsum(expressed.sum(1))])
    n = indptr[-1]
    bins, values = rng.integers(1, n_bins, n).astype(np.int16), rng.gamma(2.0, 1.0, n).astype(np.float32)
    return Cells(indptr, np.nonzero(expressed)[1].astype(np.int32), bins, values)


def random_codes(n_cells=N_CELLS, seed=0):
    rng = np.random.default_rng(seed)
    return np.stack([rng.integers(0, 3, n_cells), rng.integers(0, 4, n_cells)], axis=1)


def random_module(std=0.3, layout=LAYOUT, seed=0, **loss):
    """A module whose every parameter is random, the linear path's and the biases too."""
    module = PolygeneModule(layout, SIZES, LossConfig(**loss))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in module.named_parameters():
            p.copy_(std * torch.randn(p.shape, generator=generator) + float("norm" in name and "weight" in name))
    module.gene_scale.copy_(torch.rand(layout.n_genes, generator=generator) + 0.5)
    return module.eval()


def torch_batch(cells, masking, codes, layout=LAYOUT):
    return {name: torch.from_numpy(a) for name, a in make_batch(cells, masking, layout, codes).items()}


def drawn(cells, rates=RATES, epoch=0):
    return draw(cells, np.arange(len(cells)), ALL_MEASURED, 2, rates, seed=0, epoch=epoch)


def train_batch(n_cells=N_CELLS, codes=None, rates=RATES):
    cells = random_cells(n_cells)
    return torch_batch(cells, drawn(cells, rates), random_codes(n_cells) if codes is None else codes)


def run(module, batch):
    """Inference and generation on a batch."""
    return module.generative(**module.inference(**module._get_inference_input(batch)))


def loss_of(module, batch, **kwargs):
    return module.loss(batch, {}, run(module, batch), **kwargs)


# dense and sparse


def dense_batch(cells, batch):
    """The original's batch: every slot in order, whose tokens are seen unless hidden or of bin 0."""
    n = len(cells)
    positions = torch.arange(LAYOUT.length).expand(n, -1)
    tokens = torch.full((n, LAYOUT.length), LAYOUT.first_bin_id)
    rows = np.repeat(np.arange(n), cells.lengths)
    tokens[rows, LAYOUT.first_gene_position + cells.genes] += torch.from_numpy(cells.bins.astype(np.int64))
    specials = torch.from_numpy(LAYOUT.special_positions)
    tokens[:, specials] = batch["tokens"][:, :S]
    n_keys = batch["key_mask"].shape[1]
    for cell, slot, known in zip(range(n), batch["positions"][:, n_keys:], batch["target_bins"] >= 0, strict=True):
        tokens[cell, slot[known]] = MASK
    visible = tokens != LAYOUT.first_bin_id
    visible[:, LAYOUT.first_gene_position : -1] &= tokens[:, LAYOUT.first_gene_position : -1] != MASK
    return tokens, positions, visible


def present(batch):
    """Which columns of a ragged batch hold a token."""
    return torch.cat([batch["key_mask"], batch["target_bins"] >= 0], dim=1)


@pytest.mark.parametrize(("std", "tolerance"), [(0.02, 1e-5), (0.3, 1e-4)], ids=["std 0.02", "std 0.3"])
def test_dense_equals_sparse(std, tolerance):
    module, cells = random_module(std), random_cells()
    batch = torch_batch(cells, drawn(cells), random_codes())
    with torch.no_grad():
        sparse = module.states(batch["tokens"], batch["positions"], batch["key_mask"])
        dense = module.states(*dense_batch(cells, batch))
        dense = dense.gather(1, batch["positions"][..., None].expand(-1, -1, SIZES.n_hidden))
        word = module.encoder.embeddings.word.weight
        logits = [module.head(module.head.transform(x), word, slice(None)) for x in (sparse, dense)]
    tokens = present(batch)
    assert tokens.sum() < N_CELLS * LAYOUT.length * 0.8
    assert (sparse - dense)[tokens].abs().max() < tolerance
    assert (logits[0] - logits[1])[tokens].abs().max() < tolerance


@pytest.mark.parametrize("std", [0.02, 0.3], ids=["std 0.02", "std 0.3"])
def test_dense_and_sparse_gradients_are_equal(std):
    cells = random_cells()
    batch = torch_batch(cells, drawn(cells), random_codes())
    sparse, dense = random_module(std), random_module(std)
    loss_of(sparse, batch).loss.backward()
    hidden = dense.states(*dense_batch(cells, batch))
    p, n_keys = LAYOUT.n_phenotypes, batch["key_mask"].shape[1]
    asked = torch.cat([batch["positions"][:, 1 : 1 + p], batch["positions"][:, n_keys:]], dim=1)
    hidden = hidden.gather(1, asked[..., None].expand(-1, -1, SIZES.n_hidden))
    linear = dense.linear_logits(batch["positions"], batch["key_mask"], batch["values"])
    dense.loss(batch, {}, dense.generative(hidden, linear)).loss.backward()
    for (name, a), b in zip(sparse.named_parameters(), dense.parameters(), strict=True):
        if name.endswith("key.bias"):  # softmax does not depend on it: rounding is all there is
            assert max(a.grad.abs().max(), b.grad.abs().max()) < 1e-5
        else:
            assert (a.grad - b.grad).abs().max() <= 1e-4 * b.grad.abs().max(), name


def test_asked_states_equal_the_full_computation():
    module, batch = random_module(), train_batch()
    with torch.no_grad():
        full = module.states(batch["tokens"], batch["positions"], batch["key_mask"])
        hidden = module.inference(**module._get_inference_input(batch))["hidden"]
        slots = module.states(batch["tokens"], batch["positions"], batch["key_mask"], [0, 2])
    n_keys = batch["key_mask"].shape[1]
    torch.testing.assert_close(hidden, torch.cat([full[:, 1:3], full[:, n_keys:]], 1), atol=1e-5, rtol=0)
    torch.testing.assert_close(slots, full[:, [0, 2]], atol=1e-5, rtol=0)


def test_a_cell_alone_equals_the_cell_in_a_batch():
    """Padding never matters: neither of visible genes nor of targets."""
    module, cells, codes = random_module(), random_cells(), random_codes()
    together = run(module, torch_batch(cells, drawn(cells), codes))
    for i in range(N_CELLS):
        cell = cells.take(np.array([i]))
        masking = draw(cell, np.array([i]), ALL_MEASURED, 2, RATES, seed=0, epoch=0)
        alone = run(module, torch_batch(cell, masking, codes[[i]]))
        n_targets = alone["gene_logits"].shape[1]
        torch.testing.assert_close(alone["gene_logits"][0], together["gene_logits"][i, :n_targets], atol=1e-5, rtol=0)
        for a, b in zip(alone["phenotype_logits"], together["phenotype_logits"], strict=True):
            torch.testing.assert_close(a[0], b[i], atol=1e-5, rtol=0)


# no leak


def hide(cells, cell_of_gene, gene):
    """Show all but one expressed gene of a cell, which becomes a target."""
    masking = show_all(cells, random_codes(len(cells)))
    target = (np.repeat(np.arange(len(cells)), cells.lengths) == cell_of_gene) & (cells.genes == gene)
    assert target.sum() == 1
    return replace(masking, visible=~target, target=target)


def test_the_bin_of_a_target_changes_nothing_but_the_loss():
    module, cells = random_module(), random_cells()
    masking = hide(cells, 2, cells.genes[cells.indptr[2]])
    batches = []
    for value in (1, 2, N_BINS - 1):
        bins = np.where(masking.target, value, cells.bins).astype(np.int16)
        batches.append(torch_batch(Cells(cells.indptr, cells.genes, bins, cells.values), masking, random_codes()))
    outputs = [run(module, batch) for batch in batches]
    for other in outputs[1:]:
        assert torch.equal(outputs[0]["gene_logits"], other["gene_logits"])
        for a, b in zip(outputs[0]["phenotype_logits"], other["phenotype_logits"], strict=True):
            assert torch.equal(a, b)
    losses = {module.loss(b, {}, o).loss.item() for b, o in zip(batches, outputs, strict=True)}
    assert len(losses) == 3


def test_whether_a_target_is_expressed_changes_nothing_but_the_loss():
    """Bin 0 instead of 5: the gene leaves the expressed ones and is a target among the not-expressed ones."""
    module, cells = random_module(), random_cells()
    gene = cells.genes[cells.indptr[2]]
    masking = hide(cells, 2, gene)
    expressed = torch_batch(cells, masking, random_codes())
    keep = ~masking.target
    indptr = cells.indptr - (np.arange(N_CELLS + 1) > 2)
    without = Cells(indptr, cells.genes[keep], cells.bins[keep], cells.values[keep])
    shown = np.ones(keep.sum(), dtype=bool)
    zero = replace(masking, visible=shown, target=~shown, zero_rows=np.array([2]), zero_genes=np.array([gene]))
    absent = torch_batch(without, zero, random_codes())
    for name in ("tokens", "positions", "key_mask", "values"):
        assert torch.equal(expressed[name], absent[name]), name
    a, b = run(module, expressed), run(module, absent)
    assert torch.equal(a["gene_logits"], b["gene_logits"])
    assert all(map(torch.equal, a["phenotype_logits"], b["phenotype_logits"]))
    assert module.loss(expressed, {}, a).loss != module.loss(absent, {}, b).loss


def test_a_hidden_phenotype_changes_nothing_but_the_loss():
    module, cells = random_module(), random_cells()
    codes = random_codes()
    other = codes.copy()
    other[:, 0] = (codes[:, 0] + 1) % 3
    masking = show_all(cells, codes, np.array([False, True]))
    a, b = (run(module, torch_batch(cells, masking, c)) for c in (codes, other))
    assert all(map(torch.equal, a["phenotype_logits"], b["phenotype_logits"]))


def test_a_shown_phenotype_is_evidence_for_the_others():
    module, cells = random_module(), random_cells()
    codes = random_codes()
    other = codes.copy()
    other[:, 0] = (codes[:, 0] + 1) % 3
    masking = show_all(cells, codes, np.array([True, False]))
    a, b = (run(module, torch_batch(cells, masking, c)) for c in (codes, other))
    assert (a["phenotype_logits"][1] - b["phenotype_logits"][1]).abs().min() > 0


# the linear path


def test_drawn_values_sum_to_that_of_all_genes_on_average():
    """Hidden and dropped genes are made up for, so that training and inference see values of the same size."""
    cells, n_draws = random_cells(), 400
    sums = np.zeros(N_CELLS)
    for epoch in range(n_draws):
        sums += (
            make_batch(cells, drawn(cells, MaskingRates(), epoch), LAYOUT, random_codes())["values"].sum(1) / n_draws
        )
    np.testing.assert_allclose(sums, dense_values(cells).sum(1), rtol=0.1)


def dense_values(cells):
    x = np.zeros((len(cells), N_GENES))
    x[np.repeat(np.arange(len(cells)), cells.lengths), cells.genes] = cells.values
    return x


def test_linear_path_equals_a_dense_matrix_product():
    module, cells, codes = random_module(), random_cells(), random_codes()
    batch = torch_batch(cells, show_all(cells, codes), codes)
    linear = module.linear_logits(batch["positions"], batch["key_mask"], batch["values"])
    expected = dense_values(cells) @ (module.gene_scale[:, None] * module.bag).detach().numpy()
    np.testing.assert_allclose(linear.detach(), expected, rtol=1e-4, atol=1e-5)


def test_linear_path_is_zero_at_first():
    batch = train_batch()
    with_path = PolygeneModule(LAYOUT, SIZES, seed=3).eval()
    without = PolygeneModule(LAYOUT, SIZES, seed=3, linear_path=False).eval()
    assert without.bag is None
    a, b = run(with_path, batch), run(without, batch)
    assert all(map(torch.equal, a["phenotype_logits"], b["phenotype_logits"]))


def test_logistic_regression_is_a_special_case():
    cells, codes = random_cells(53), random_codes(53)
    x = dense_values(cells)
    regression = LogisticRegression().fit(x, codes[:, 0])
    module = PolygeneModule(LAYOUT, SIZES)
    ids = list(LAYOUT.phenotypes[0].ids)
    with torch.no_grad():
        module.bag[:, :3] = torch.from_numpy(regression.coef_.T)
        module.head.bias[ids] = torch.from_numpy(regression.intercept_).float()
        module.encoder.embeddings.word.weight[ids] = 0.0
    batch = torch_batch(cells, show_all(cells, codes), codes)
    logits = module.predict(*(batch[n] for n in ("tokens", "positions", "key_mask", "values")))[0]
    np.testing.assert_allclose(logits.detach(), regression.decision_function(x), rtol=1e-4, atol=1e-4)


# the loss


def test_loss_is_the_sum_of_its_parts():
    module, batch = random_module(phenotype_weight=2.5), train_batch()
    output = loss_of(module, batch)
    parts = output.extra_metrics
    expected = parts["gene_loss"] + 2.5 * parts["phenotype_loss"]
    torch.testing.assert_close(output.loss.detach(), expected)


def test_losses_are_means_over_targets_and_over_hidden_known_values():
    module, batch = random_module(label_smoothing=0.2, bin_width=0.0), train_batch()
    logits, parts = run(module, batch), loss_of(module, batch).extra_metrics
    known = batch["target_bins"] >= 0
    shifted = logits["gene_logits"].clone()
    shifted[..., 0] += batch["zero_offset"][:, None]
    genes = torch.nn.functional.cross_entropy(shifted[known], batch["target_bins"][known])
    torch.testing.assert_close(parts["gene_loss"], genes.detach())
    asked = torch.where(batch["phenotype_hidden"], batch["phenotypes"], -1)
    assert (asked >= 0).any(0).all()
    phenotypes = [
        torch.nn.functional.cross_entropy(x, asked[:, i], ignore_index=-1, label_smoothing=0.2)
        for i, x in enumerate(logits["phenotype_logits"])
    ]
    torch.testing.assert_close(parts["phenotype_loss"], torch.stack(phenotypes).mean().detach())


def test_loss_output_keeps_a_loss_per_cell():
    output = loss_of(random_module(), train_batch())
    per_cell = output.reconstruction_loss["reconstruction_loss"]
    assert per_cell.shape == (N_CELLS,)
    torch.testing.assert_close(per_cell.mean(), output.loss)
    torch.testing.assert_close(output.reconstruction_loss_sum, per_cell.sum())
    assert output.n_obs_minibatch == N_CELLS


def test_count_targets_by_hand():
    batch = {
        "target_bins": torch.tensor([[0, 3, -1], [2, -1, -1]]),
        "phenotypes": torch.tensor([[0, -1], [2, 1]]),
        "phenotype_hidden": torch.tensor([[True, True], [False, True]]),
    }
    assert random_module().count_targets(batch).tolist() == [3, 1, 1]


def test_parts_with_global_denominators_average_to_the_whole():
    """What two processes do, or two steps of accumulated gradients."""
    cells, codes = random_cells(), random_codes()
    codes[:3, 0] = -1
    whole, parts = random_module(), random_module()
    counts = whole.count_targets(torch_batch(cells, drawn(cells), codes)).float()
    loss_of(whole, torch_batch(cells, drawn(cells), codes)).loss.backward()
    for rows in (np.arange(2), np.arange(2, N_CELLS)):
        part = cells.take(rows)
        masking = draw(part, rows, ALL_MEASURED, 2, RATES, seed=0, epoch=0)
        (loss_of(parts, torch_batch(part, masking, codes[rows]), denominators=counts / 2).loss / 2).backward()
    for (name, a), b in zip(whole.named_parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, atol=1e-5, rtol=1e-5, msg=name)


@pytest.mark.parametrize("n_cells", [1, N_CELLS])
def test_nothing_to_learn_gives_zero_loss_and_finite_gradients(n_cells):
    """No known phenotype and no gene target; every parameter stays in the graph, as ddp needs it."""
    rates = MaskingRates(expressed=0.0, gene_dropout=0.0)
    batch = train_batch(n_cells, codes=np.full((n_cells, 2), -1), rates=rates)
    assert batch["target_bins"].shape == (n_cells, 0)
    module = random_module()
    output = loss_of(module, batch)
    output.loss.backward()
    assert output.loss == 0
    assert all(p.grad is not None and not p.grad.any() for p in module.parameters())


def test_an_unknown_phenotype_leaves_the_loss_of_the_other():
    codes = random_codes()
    codes[:, 0] = -1
    batch = train_batch(codes=codes)
    module = random_module()
    output = loss_of(module, batch)
    output.loss.backward()
    assert torch.isfinite(output.loss)
    assert not module.head.bias.grad[list(LAYOUT.phenotypes[0].ids)].any()
    assert module.head.bias.grad[list(LAYOUT.phenotypes[1].ids)].any()


def test_smoothing_stays_within_a_phenotype():
    """Only the words of a slot's own phenotype are pushed up or down by its loss."""
    codes = random_codes()
    codes[:, 1] = -1
    module = random_module(label_smoothing=0.5)
    loss_of(module, train_batch(codes=codes, rates=MaskingRates(expressed=0.0, gene_dropout=0.0))).loss.backward()
    touched = set(module.head.bias.grad.nonzero().flatten().tolist())
    assert touched == set(LAYOUT.phenotypes[0].ids)
    assert module.bag.grad[:, :3].any()
    assert not module.bag.grad[:, 3:].any()


def test_genes_push_the_words_of_bins_only():
    module = random_module(bin_width=2.0)
    loss_of(module, train_batch(codes=np.full((N_CELLS, 2), -1))).loss.backward()
    first = LAYOUT.first_bin_id
    assert set(module.head.bias.grad.nonzero().flatten().tolist()) == set(range(first, first + N_BINS))


@pytest.mark.parametrize("not_expressed", ["match", 0.15], ids=["match", "rate"])
def test_sampled_targets_recover_the_zero_fraction(not_expressed):
    """Fit one bias to the targets of many cells: it must know the share of genes that are not expressed."""
    n_cells, n_genes = 101, 997
    layout = TokenLayout.build({"fate": ["a", "b"]}, [f"g{i}" for i in range(n_genes)], N_BINS)
    cells = random_cells(n_cells, n_genes, density=0.1)
    rates = MaskingRates(expressed=0.3, not_expressed=not_expressed)
    masking = draw(cells, np.arange(n_cells), np.ones(n_genes, dtype=bool), 1, rates, seed=0, epoch=0)
    batch = torch_batch(cells, masking, np.zeros((n_cells, 1), dtype=int), layout)
    module = PolygeneModule(layout, SIZES, LossConfig(bin_width=0.0))
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


# the rest


def test_a_cell_with_nothing_expressed_is_predicted():
    cells, codes = random_cells(3, density=0.0), random_codes(3)
    batch = torch_batch(cells, show_all(cells, codes), codes)
    module = random_module()
    logits = module.predict(*(batch[n] for n in ("tokens", "positions", "key_mask", "values")))
    assert [x.shape for x in logits] == [(3, 3), (3, 4)]
    assert all(torch.isfinite(x).all() for x in logits)


def test_two_bins_are_trained():
    layout = TokenLayout.build({"fate": ["a", "b"]}, LAYOUT.genes, 2)
    cells = random_cells(n_bins=2)
    masking = draw(cells, np.arange(N_CELLS), ALL_MEASURED, 1, RATES, seed=0, epoch=0)
    batch = torch_batch(cells, masking, random_codes()[:, :1] % 2, layout)
    module = random_module(layout=layout)
    output = loss_of(module, batch)
    assert run(module, batch)["gene_logits"].shape[-1] == 2
    output.loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in module.parameters())


def test_shapes():
    batch, module = train_batch(), random_module()
    n_targets = batch["target_bins"].shape[1]
    logits = run(module, batch)
    assert logits["gene_logits"].shape == (N_CELLS, n_targets, N_BINS)
    assert [x.shape for x in logits["phenotype_logits"]] == [(N_CELLS, 3), (N_CELLS, 4)]


def test_seed_decides_the_first_weights_and_nothing_else_changes():
    before = torch.get_rng_state()
    a, b, c = (PolygeneModule(LAYOUT, SIZES, seed=seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not torch.equal(a["encoder.embeddings.word.weight"], c["encoder.embeddings.word.weight"])


def test_sampling_is_refused():
    with pytest.raises(NotImplementedError, match="The module draws no cells"):
        random_module().sample()
