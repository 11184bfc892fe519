"""The mixture of both paths against dense one-liners and scikit-learn, and the states that decide."""

import numpy as np
import pytest
import torch
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression

from polygene_scverse._layout import MASK
from polygene_scverse.data.feed._masking import ask
from polygene_scverse.module import PolygeneModule, _linear_path

N_CELLS, N_GENES = 7, 31
NO_GENES = np.zeros(0, dtype=np.int64)
INPUTS = ("tokens", "positions", "key_mask", "values", "measured")


def dense_values(cells):
    """What the linear path sees of every gene: log1p of counts per 1,000."""
    x = np.zeros((len(cells), N_GENES))
    x[np.repeat(np.arange(len(cells)), cells.lengths), cells.genes] = np.log1p(np.expm1(cells.values) / 10.0)
    return x


def shown_batch(kit, cells, codes, shown=None, measured=None):
    """A batch of prediction, and what is given to `predict` of it, but for the share."""
    hidden = np.ones(codes.shape, dtype=bool) if shown is None else (codes < 0) | ~shown
    batch = kit.torch_batch(cells, ask(cells, NO_GENES, hidden), codes)
    batch["measured"] = torch.from_numpy(kit.measured if measured is None else measured)
    return [batch[name] for name in INPUTS]


def of_genes(module, cells):
    """Logits of the linear path by a dense matrix product; a list of (n_cells, categories)."""
    path = {name: buffer.numpy().astype(np.float64) for name, buffer in module.linear.named_buffers()}
    logits = (np.minimum(dense_values(cells), path["cap"]) - path["centre"]) @ path["weights"] + path["bias"]
    return np.split(logits, np.cumsum(module.n_categories)[:-1], axis=1)


def read_only(kit, module, cells, codes, share, fewest):
    """Arrays for the encoder of the genes of each cell with the highest ranks, chosen in a loop."""
    parts = []
    for i in range(len(cells)):
        cell = cells.take(np.array([i]))
        ranks = module.linear.ranks.numpy()[cell.genes]
        n = max(fewest, int(np.ceil(share * len(ranks))))
        dropped = np.setdiff1d(cell.genes, cell.genes[np.argsort(-ranks)[:n]])
        nothing = np.zeros(len(dropped))
        parts.append(shown_batch(kit, cell.with_genes(dropped, nothing, nothing), codes[[i]])[:3])
    return parts


# the mixture


def test_linear_logits_equal_a_dense_matrix_product(kit):
    module, cells = kit.random_module(), kit.random_cells()
    _, positions, _, values, measured = shown_batch(kit, cells, kit.random_codes())
    found = module.linear_logits(positions, values, measured)
    assert [x.shape for x in found] == [(N_CELLS, 3), (N_CELLS, 4)]
    for x, expected in zip(found, of_genes(module, cells), strict=True):
        np.testing.assert_allclose(x, expected, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_predictions_are_the_mixture_by_hand(kit):
    """A share for each phenotype."""
    module, cells = kit.random_module(), kit.random_cells()
    arrays = shown_batch(kit, cells, kit.random_codes())
    of_transformer = module.transformer_logits(*arrays[:3])
    found = module.predict(*arrays, torch.tensor([0.25, 0.75]))
    for x, a, b, mix in zip(found, of_transformer, of_genes(module, cells), (0.25, 0.75), strict=True):
        assert np.abs(a.numpy() - b).min() > 1e-3
        np.testing.assert_allclose(x, (1 - mix) * a.numpy() + mix * b, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_what_given_phenotypes_change_is_added_in_full(kit):
    """transformer(given) + mix * (linear - transformer(hidden)), also where only some cells know the given one."""
    module, cells, codes = kit.random_module(), kit.random_cells(), kit.random_codes()
    codes[:3, 1] = -1
    given, hidden = (shown_batch(kit, cells, codes, shown) for shown in (np.array([False, True]), None))
    assert (given[0][:, 2] == MASK).tolist() == [True] * 3 + [False] * 4
    a, b = (module.transformer_logits(*arrays[:3]) for arrays in (given, hidden))
    assert (a[0] - b[0])[3:].abs().min() > 0
    found, blank = module.predict(*given, kit.share), module.predict(*hidden, kit.share)
    for i, linear in enumerate(of_genes(module, cells)):
        mix = kit.share[i].item()
        expected = a[i].numpy() + mix * (linear - b[i].numpy())
        np.testing.assert_allclose(found[i], expected, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(found[i] - blank[i], a[i] - b[i], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(found[i][:3], blank[i][:3], rtol=1e-4, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("shown", [None, np.array([True, False])], ids=["hidden", "given"])
def test_without_a_share_the_transformer_decides_alone(kit, shown):
    module, cells = kit.random_module(), kit.random_cells()
    arrays = shown_batch(kit, cells, kit.random_codes(), shown)
    assert all(map(torch.equal, module.predict(*arrays, torch.zeros(2)), module.transformer_logits(*arrays[:3])))


@torch.no_grad()
def test_the_linear_path_may_be_left_out(kit):
    with_path, arrays = PolygeneModule(kit.layout, kit.sizes, seed=3).eval(), None
    without = PolygeneModule(kit.layout, kit.sizes, seed=3, linear_path=False).eval()
    arrays = shown_batch(kit, kit.random_cells(), kit.random_codes())
    assert without.linear is None
    none = torch.zeros(2)
    for share in (none, kit.share):
        assert all(map(torch.equal, with_path.predict(*arrays, none), without.predict(*arrays, share)))
        assert torch.equal(with_path.decision_states(*arrays, none), without.decision_states(*arrays, share))
    with pytest.raises(ValueError, match="`linear_path`: the model has none"):
        without.linear_logits(arrays[1], *arrays[3:])


def test_the_linear_path_has_no_part_in_training(kit):
    """No parameter of it, and the loss of a module with it is that of one without."""
    module, batch = kit.random_module(), kit.train_batch()
    assert not list(module.linear.parameters())
    assert {name for name, _ in module.named_buffers() if name.startswith("linear.")} <= set(module.state_dict())
    loss = kit.loss_of(module, batch).loss
    module.linear = None
    assert torch.equal(kit.loss_of(module, batch).loss, loss)


def test_logistic_regression_is_a_special_case(kit):
    """With the whole share, no cap and no centre."""
    cells, codes = kit.random_cells(53), kit.random_codes(53)
    x = dense_values(cells)
    regression = LogisticRegression().fit(x, codes[:, 0])
    module = PolygeneModule(kit.layout, kit.sizes)
    weights, bias = np.zeros((N_GENES, 7)), np.zeros(7)
    weights[:, :3], bias[:3] = regression.coef_.T, regression.intercept_
    module.linear.load(weights, bias, np.full(N_GENES, np.inf), np.zeros(N_GENES))
    logits = module.predict(*shown_batch(kit, cells, codes), torch.tensor([1.0, 0.0]))[0]
    np.testing.assert_allclose(logits.detach(), regression.decision_function(x), rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_unmeasured_genes_count_as_average(kit):
    """To both paths they are not there; a row for each cell says the same as one for all."""
    module, cells, codes = kit.random_module(), kit.random_cells(), kit.random_codes()
    measured = np.arange(N_GENES) % 3 != 1
    kept = measured[cells.genes]
    indptr = np.r_[0, np.cumsum(kept)][cells.indptr]
    part = type(cells)(indptr, cells.genes[kept], cells.bins[kept], cells.values[kept])
    found = module.predict(*shown_batch(kit, part, codes, measured=measured), kit.share)
    of_rows = module.predict(*shown_batch(kit, part, codes, measured=np.tile(measured, (N_CELLS, 1))), kit.share)
    path = {name: buffer.numpy() for name, buffer in module.linear.named_buffers()}
    centred = (np.minimum(dense_values(cells), path["cap"]) - path["centre"]) * measured
    linear = np.split(centred @ path["weights"] + path["bias"], [3], axis=1)
    of_transformer = module.transformer_logits(*shown_batch(kit, part, codes)[:3])
    for x, y, a, b, mix in zip(found, of_rows, of_transformer, linear, kit.share.numpy(), strict=True):
        np.testing.assert_allclose(x, (1 - mix) * a.numpy() + mix * b, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-4)


# the states that decide


@torch.no_grad()
def test_decision_states_hold_the_shortest_vector_that_gives_the_linear_path(kit):
    """Found by least squares, and mixed into the transformer's states."""
    module, cells = kit.random_module(), kit.random_cells()
    arrays = shown_batch(kit, cells, kit.random_codes())
    states = module.head.transform(module.inference(*arrays[:3])["hidden"][:, :2]).numpy()
    found, word = module.decision_states(*arrays, kit.share), module.encoder.embeddings.word.weight.numpy()
    assert found.shape == (N_CELLS, 2, kit.sizes.n_hidden)
    for i, (slot, linear) in enumerate(zip(kit.layout.phenotypes, of_genes(module, cells), strict=True)):
        words, wanted, mix = word[list(slot.ids)], linear.T, kit.share[i].item()  # (categories, H), (categories, B)
        shortest = np.linalg.lstsq(words - words.mean(0), wanted - wanted.mean(0), rcond=1e-5)[0]
        expected = (1 - mix) * states[:, i] + mix * shortest.T
        np.testing.assert_allclose(found[:, i], expected, rtol=1e-3, atol=1e-3)


@torch.no_grad()
@pytest.mark.parametrize("shown", [None, np.array([False, True])], ids=["hidden", "given"])
def test_the_words_of_categories_times_their_state_give_the_mixed_logits(kit, shown):
    """Up to a constant per cell and the share of the transformer's bias; given phenotypes count in full in both."""
    module, cells = kit.random_module(), kit.random_cells()
    arrays = shown_batch(kit, cells, kit.random_codes(), shown)
    states, logits = module.decision_states(*arrays, kit.share), module.predict(*arrays, kit.share)
    for i, slot in enumerate(kit.layout.phenotypes):
        ids = list(slot.ids)
        bias = (1 - kit.share[i]) * module.head.bias[ids]
        of_state = states[:, i] @ module.encoder.embeddings.word.weight[ids].T + bias
        np.testing.assert_allclose(softmax(of_state.numpy(), 1), softmax(logits[i].numpy(), 1), atol=1e-4)


def test_a_cell_with_nothing_expressed_is_predicted(kit):
    cells, codes = kit.random_cells(3, density=0.0), kit.random_codes(3)
    logits = kit.random_module().predict(*shown_batch(kit, cells, codes), kit.share)
    assert [x.shape for x in logits] == [(3, 3), (3, 4)]
    assert all(torch.isfinite(x).all() for x in logits)


# the genes that the transformer reads


@torch.no_grad()
@pytest.mark.parametrize(("share", "fewest"), [(0.0, 1), (0.5, 1), (0.5, 6), (0.25, 10), (0.5, 30), (1.0, 1)])
def test_the_transformer_reads_the_most_important_genes_and_the_linear_path_all(kit, monkeypatch, share, fewest):
    monkeypatch.setattr(_linear_path, "FEWEST", fewest)
    module, cells, codes = kit.random_module(), kit.random_cells(), kit.random_codes()
    module.linear.limit(share, np.random.default_rng(1).random(N_GENES))
    arrays = shown_batch(kit, cells, codes)
    assert cells.lengths.min() < 10 < cells.lengths.max() < 30
    found, states = module.predict(*arrays, kit.share), module.decision_states(*arrays, torch.zeros(2))
    parts, linear = read_only(kit, module, cells, codes, share, fewest), of_genes(module, cells)
    module.linear.limit(1.0)
    for i, part in enumerate(parts):
        torch.testing.assert_close(states[[i]], module._phenotype_states(*part), rtol=1e-4, atol=1e-4)
        for j, z in enumerate(module.transformer_logits(*part)):
            mix = kit.share[j].item()
            expected = (1 - mix) * z[0].numpy() + mix * linear[j][i]
            np.testing.assert_allclose(found[j][i], expected, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_the_genes_read_do_not_depend_on_the_other_cells(kit, monkeypatch):
    monkeypatch.setattr(_linear_path, "FEWEST", 3)
    module, cells, codes = kit.random_module(), kit.random_cells(), kit.random_codes()
    module.linear.limit(0.5, np.zeros(0))
    together = module.predict(*shown_batch(kit, cells, codes), kit.share)
    for i in range(N_CELLS):
        alone = module.predict(*shown_batch(kit, cells.take(np.array([i])), codes[[i]]), kit.share)
        for a, b in zip(together, alone, strict=True):
            torch.testing.assert_close(a[[i]], b, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_targets_and_states_are_not_limited(kit, monkeypatch):
    """Questions about genes read every visible gene, and so does training."""
    monkeypatch.setattr(_linear_path, "FEWEST", 1)
    module, batch = kit.random_module(), kit.train_batch()
    before = module.inference(**module._get_inference_input(batch))["hidden"]
    arrays = shown_batch(kit, kit.random_cells(), kit.random_codes())[:3]
    states = module.states(*arrays)
    module.linear.limit(0.0, np.zeros(0))
    assert module.select_genes(*arrays)[0].shape[1] == kit.layout.n_special + 1
    assert torch.equal(module.inference(**module._get_inference_input(batch))["hidden"], before)
    assert torch.equal(module.states(*arrays), states)
    names = ("tokens", "positions", "key_mask")
    assert all(map(torch.equal, module.select_genes(*(batch[n] for n in names)), (batch[n] for n in names)))
