"""The gene decoder: its closed form, what hidden phenotypes do, and that nothing hidden is seen at any share."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import special

from polygene_scverse.data.feed._masking import MaskingRates
from polygene_scverse.data.read._tokens import Cells
from polygene_scverse.fit._class_frequencies import fit_class_frequencies
from polygene_scverse.module import PolygeneModule
from polygene_scverse.module._gene_decoder import FEW, GeneContext, GeneDecoder

N_GENES, N_BINS, N_HIDDEN, SIZES = 11, 4, 6, [3, 2]


def frequencies(seed=0):
    codes = np.array(list(np.ndindex(*SIZES)))
    counts = np.random.default_rng(seed).poisson(9, (len(codes), N_GENES, N_BINS)).astype(float)
    return fit_class_frequencies(lambda genes: counts[:, genes], N_GENES, codes, SIZES)


def log_probabilities(found, codes):
    """What the log-linear model says of cells whose phenotypes are known; shape (n, G, V)."""
    pairs = (codes + np.cumsum([0, *SIZES[:-1]])).tolist()
    at = [found.pairs.tolist().index(pair) for pair in pairs]
    return special.log_softmax(found.bias + found.effects[pairs].sum(1) + found.interactions[at], axis=-1)


def decoder(found=None, trained=True, seed=0):
    generator = torch.Generator().manual_seed(seed)
    made = GeneDecoder(N_GENES, N_BINS, SIZES, N_HIDDEN, generator=generator)
    made.set_frequencies(frequencies() if found is None else found, np.array([5.0, 3.0, 2.0, 1.0, 4.0]))
    if trained:
        with torch.no_grad():
            for p in made.parameters():
                p.normal_(generator=generator)
    return made


def context(codes, n_visible=0.0, share=1.0, seed=0):
    """Every gene asked of cells that show some phenotypes, -1 for none."""
    rng = np.random.default_rng(seed)
    codes = torch.as_tensor(codes)
    n = len(codes)
    shown = [(c[:, None] == torch.arange(size)).float() for c, size in zip(codes.T, SIZES, strict=True)]
    visible = torch.zeros(n, N_BINS)
    visible[:, 1] = n_visible
    cls = torch.from_numpy(rng.normal(size=(n, N_HIDDEN))).float()
    genes = torch.arange(N_GENES).expand(n, -1)
    return GeneContext(genes, cls, visible, torch.full((n,), share), torch.cat(shown, 1), codes >= 0)


def uniform(n):
    return [torch.full((n, size), 1.0 / size) for size in SIZES]


def shared(n, seed=1):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(n, N_GENES, N_BINS))).float()


def test_with_nothing_visible_the_closed_form_decides_alone():
    found, codes = frequencies(), np.array(list(np.ndindex(*SIZES)))
    logits = decoder(found)(shared(6), context(codes), uniform(6))
    expected = log_probabilities(found, codes)
    torch.testing.assert_close(logits.log_softmax(-1), torch.from_numpy(expected), atol=1e-4, rtol=0)


def test_nothing_is_trained_at_the_start():
    made, codes = decoder(trained=False), np.array([[0, 1], [2, 0]])
    of_cells, bins = context(codes, 20.0), shared(2)
    expected = made.class_part(of_cells.genes, of_cells.categories) + 20.0 / (20.0 + FEW) * bins
    torch.testing.assert_close(made(bins, of_cells, uniform(2)), expected)


def test_effects_of_hidden_categories_are_mixed_as_odds():
    found = frequencies()
    found = replace(found, pairs=found.pairs[:0], interactions=found.interactions[:0])
    p = torch.tensor([[0.2, 0.5, 0.3]])
    made, trust = decoder(found, trained=False), 1e6 / (1e6 + FEW)
    logits = made(torch.zeros(1, N_GENES, N_BINS), context([[-1, 1]], 1e6), [p, torch.ones(1, 2) / 2])
    weights = (trust * p + (1 - trust) * torch.tensor([0.5, 0.3, 0.2]))[0].numpy()
    of_first = np.tensordot(weights, np.exp(found.bias + found.effects[:3]), 1)  # the probabilities' mean
    expected = np.log(of_first) + found.effects[4]
    torch.testing.assert_close(logits[0], torch.from_numpy(expected).float(), atol=1e-4, rtol=0)


def test_with_nothing_visible_hidden_categories_count_by_their_shares():
    made = decoder()
    weights = made.weights_of(context([[-1, -1], [1, -1]]), uniform(2))
    torch.testing.assert_close(weights, torch.tensor([[0.5, 0.3, 0.2, 0.2, 0.8], [0, 1, 0, 0.2, 0.8]]))


def test_what_a_token_changes_is_the_closed_form_at_the_start():
    """Swapping a phenotype's token moves the logits as the log-linear model says, whatever is visible."""
    found = frequencies()
    made = decoder(found, trained=False)
    a, b = (made(shared(1), context([[1, s]], 30.0), uniform(1)) for s in (0, 1))
    p = log_probabilities(found, np.array([[1, 0], [1, 1]]))
    change, expected = (x - x.mean(-1, keepdims=True) for x in ((b - a)[0].detach().numpy(), p[1] - p[0]))
    np.testing.assert_allclose(change, expected, atol=1e-4)


def test_the_share_that_is_hidden_is_seen():
    """The same visible genes are another thing when the rest is hidden than when it is not expressed."""
    made = decoder()
    a, b = (made(shared(1), context([[0, 0]], 5.0, share), uniform(1)) for share in (1.0, 0.3))
    assert (a - b).abs().min() > 0


def test_no_gradient_to_the_probabilities_of_phenotypes():
    made, p = decoder(), [x.requires_grad_() for x in uniform(1)]
    made(shared(1).requires_grad_(), context([[-1, -1]], 5.0), p).sum().backward()
    assert all(x.grad is None for x in p)


def test_interactions_are_cut_to_their_leading_dimensions():
    found = frequencies()
    exact = decoder(found)
    table = exact.pair_weights @ exact.interactions.flatten(0, 1).T
    expected = torch.from_numpy(found.interactions).flatten(1)
    torch.testing.assert_close(table, expected, atol=1e-4, rtol=0)
    cut = GeneDecoder(N_GENES, N_BINS, SIZES, N_HIDDEN, n_interactions=2)
    cut.set_frequencies(found, np.ones(5))
    assert cut.interactions.shape == (N_GENES, N_BINS, 2)


def test_bin_values_by_hand():
    made = decoder()
    mean, effects = np.arange(N_GENES * N_BINS).reshape(N_GENES, N_BINS), np.zeros((5, N_GENES, N_BINS))
    effects[3, 2] = 7.0
    made.set_values(mean, effects)
    found = made.bin_values(torch.tensor([[2, 4]]), torch.tensor([[0, 1, 0, 0.5, 0.5]]))
    np.testing.assert_allclose(found[0], mean[[2, 4]] + np.array([[3.5], [0]]))


def test_no_phenotypes():
    made = GeneDecoder(N_GENES, N_BINS, [], N_HIDDEN)
    empty = torch.zeros(2, 0)
    of_cells = GeneContext(
        torch.zeros(2, 3, dtype=torch.long),
        torch.zeros(2, N_HIDDEN),
        torch.ones(2, N_BINS),
        torch.ones(2),
        empty,
        empty.bool(),
    )
    assert made(torch.zeros(2, 3, N_BINS), of_cells, []).shape == (2, 3, N_BINS)


def test_votes_of_shown_categories_by_hand():
    made = decoder(trained=False)
    with torch.no_grad():
        made.votes[4, 1] = 3.0
    found = made.shown_part(context([[1, -1], [0, -1]]).categories)
    torch.testing.assert_close(found[1], torch.tensor([[0.0, 3.0], [0.0, 0.0]]))


# in the module


def test_without_a_decoder_all_else_is_the_same(kit):
    """To the last bit: initial weights, and what the network says."""
    with_it, without = (PolygeneModule(kit.layout, kit.sizes, gene_decoder=used).eval() for used in (True, False))
    a, b = with_it.state_dict(), without.state_dict()
    assert set(a) - set(b) == {name for name in a if name.startswith("gene_decoder.")}
    assert all(torch.equal(a[name], b[name]) for name in b)
    batch = kit.train_batch()
    assert without.inference(**without._get_inference_input(batch)).keys() == {"hidden"}
    with torch.no_grad():
        x, y = (kit.run(module, batch)["phenotype_logits"] for module in (with_it, without))
    for p, q in zip(x, y, strict=True):
        torch.testing.assert_close(p, q, atol=1e-6, rtol=0)


def drawn_at(kit, cells, share):
    """Targets, and of the other genes a share that is hidden too, with phenotypes shown in some cells."""
    masking = kit.drawn(cells, MaskingRates(expressed=0.3, gene_dropout=0.0))
    kept = np.random.default_rng(0).random(len(cells.genes)) >= share
    told = np.full(len(cells), 0.7 * (1 - share), dtype=np.float32)
    return replace(masking, visible=masking.visible & kept, shown_share=told)


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 0.75, 1.0])
def test_no_leak_at_any_share(kit, share):
    """With the target set fixed, the bins of targets change no output."""
    module, cells, codes = kit.random_module(), kit.random_cells(), kit.random_codes()
    masking = drawn_at(kit, cells, share)
    outputs = []
    for shift in (0, 1, 2):
        bins = np.where(masking.target, 1 + (cells.bins - 1 + shift) % (kit.layout.n_bins - 1), cells.bins)
        other = Cells(cells.indptr, cells.genes, bins.astype(np.int16), cells.values)
        outputs.append(kit.run(module, kit.torch_batch(other, masking, codes)))
    for other in outputs[1:]:
        assert torch.equal(outputs[0]["gene_logits"], other["gene_logits"])
        assert all(map(torch.equal, outputs[0]["phenotype_logits"], other["phenotype_logits"]))


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_whether_a_target_is_expressed_is_not_seen_at_any_share(kit, share):
    """All expressed targets become not-expressed ones: the same targets, other answers."""
    module, cells, codes = kit.random_module(), kit.random_cells(), kit.random_codes()
    masking = drawn_at(kit, cells, share)
    rows = np.repeat(np.arange(len(cells)), cells.lengths)
    keep = ~masking.target
    indptr = np.concatenate([[0], np.cumsum(np.bincount(rows[keep], minlength=len(cells)))])
    without = Cells(indptr, cells.genes[keep], cells.bins[keep], cells.values[keep])
    zero_rows = np.concatenate([masking.zero_rows, rows[~keep]])
    order = np.argsort(zero_rows, kind="stable")
    zero = replace(
        masking,
        visible=masking.visible[keep],
        target=np.zeros(keep.sum(), dtype=bool),
        zero_rows=zero_rows[order],
        zero_genes=np.concatenate([masking.zero_genes, cells.genes[~keep]])[order],
    )
    a, b = (kit.run(module, kit.torch_batch(c, m, codes)) for c, m in ((cells, masking), (without, zero)))
    assert torch.equal(a["gene_logits"], b["gene_logits"])


def test_a_shown_phenotype_changes_hidden_genes_where_none_is_visible(kit):
    module, cells, codes = kit.random_module(), kit.random_cells(), kit.random_codes()
    masking = replace(drawn_at(kit, cells, 1.0), hidden=np.zeros(codes.shape, dtype=bool))
    other = codes.copy()
    other[:, 0] = (codes[:, 0] + 1) % 3
    a, b = (kit.run(module, kit.torch_batch(cells, masking, c))["gene_logits"] for c in (codes, other))
    assert (a - b).abs().max() > 0.01
