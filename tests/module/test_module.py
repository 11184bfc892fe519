"""The module on ragged batches, and its linear path against a matrix product and scikit-learn."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from polygene_scverse._layout import TokenLayout
from polygene_scverse.data._batch import make_batch
from polygene_scverse.data._masking import MaskingRates, draw, show_all
from polygene_scverse.module import PolygeneModule

N_CELLS, N_GENES, N_BINS = 7, 31, 5


def test_drawn_values_sum_to_that_of_all_genes_on_average(kit):
    """Hidden and dropped genes are made up for, so that training and inference see values of the same size."""
    cells, n_draws = kit.random_cells(), 400
    sums = np.zeros(N_CELLS)
    for epoch in range(n_draws):
        sums += (
            make_batch(cells, kit.drawn(cells, MaskingRates(), epoch), kit.layout, kit.random_codes())["values"].sum(1)
            / n_draws
        )
    np.testing.assert_allclose(sums, dense_values(cells).sum(1), rtol=0.1)


def dense_values(cells):
    x = np.zeros((len(cells), N_GENES))
    x[np.repeat(np.arange(len(cells)), cells.lengths), cells.genes] = cells.values
    return x


def test_linear_path_equals_a_dense_matrix_product(kit):
    module, cells, codes = kit.random_module(), kit.random_cells(), kit.random_codes()
    batch = kit.torch_batch(cells, show_all(cells, codes), codes)
    linear = module.linear_logits(batch["positions"], batch["key_mask"], batch["values"])
    matrix = (module.gene_scale[:, None] * module.bag * module.category_scale).detach().numpy()
    expected = dense_values(cells) @ matrix
    np.testing.assert_allclose(linear.detach(), expected, rtol=1e-4, atol=1e-5)


def test_decision_states_hold_the_shortest_vector_that_gives_the_linear_path(kit):
    module, batch = kit.random_module(), kit.train_batch()
    arrays = module._get_inference_input(batch)
    with torch.no_grad():
        outputs = module.inference(**arrays)
        added = module.decision_states(**arrays) - module.head.transform(outputs["hidden"][:, :2])
        word = module.encoder.embeddings.word.weight.numpy()
    for i, (slot, linear) in enumerate(zip(kit.layout.phenotypes, outputs["linear"].split([3, 4], 1), strict=True)):
        words, wanted = word[list(slot.ids)], linear.numpy().T  # (categories, H), (categories, B)
        expected = np.linalg.lstsq(words - words.mean(0), wanted - wanted.mean(0), rcond=1e-5)[0]
        np.testing.assert_allclose(added[:, i].T, expected, rtol=1e-3, atol=1e-3)


def test_scale_of_categories_is_noted_before_the_linear_path_is_trained_and_then_stays(kit):
    module = PolygeneModule(kit.layout, kit.sizes)
    counts, scale = torch.arange(7.0), torch.rand(7)
    module.note_counts(counts, scale)
    assert torch.equal(module.category_counts, counts)
    assert torch.equal(module.category_scale, scale)
    with torch.no_grad():
        module.bag[0, 0] = 1.0
    module.note_counts(2 * counts, 2 * scale)
    assert torch.equal(module.category_counts, 2 * counts)
    assert torch.equal(module.category_scale, scale)


def test_linear_path_is_zero_at_first(kit):
    batch = kit.train_batch()
    with_path = PolygeneModule(kit.layout, kit.sizes, seed=3).eval()
    without = PolygeneModule(kit.layout, kit.sizes, seed=3, linear_path=False).eval()
    assert without.bag is None
    a, b = kit.run(with_path, batch), kit.run(without, batch)
    assert all(map(torch.equal, a["phenotype_logits"], b["phenotype_logits"]))


def test_logistic_regression_is_a_special_case(kit):
    cells, codes = kit.random_cells(53), kit.random_codes(53)
    x = dense_values(cells)
    regression = LogisticRegression().fit(x, codes[:, 0])
    module = PolygeneModule(kit.layout, kit.sizes)
    ids = list(kit.layout.phenotypes[0].ids)
    with torch.no_grad():
        module.bag[:, :3] = torch.from_numpy(regression.coef_.T)
        module.head.bias[ids] = torch.from_numpy(regression.intercept_).float()
        module.encoder.embeddings.word.weight[ids] = 0.0
    batch = kit.torch_batch(cells, show_all(cells, codes), codes)
    logits = module.predict(*(batch[n] for n in ("tokens", "positions", "key_mask", "values")))[0]
    np.testing.assert_allclose(logits.detach(), regression.decision_function(x), rtol=1e-4, atol=1e-4)


# the rest


def test_a_cell_with_nothing_expressed_is_predicted(kit):
    cells, codes = kit.random_cells(3, density=0.0), kit.random_codes(3)
    batch = kit.torch_batch(cells, show_all(cells, codes), codes)
    module = kit.random_module()
    logits = module.predict(*(batch[n] for n in ("tokens", "positions", "key_mask", "values")))
    assert [x.shape for x in logits] == [(3, 3), (3, 4)]
    assert all(torch.isfinite(x).all() for x in logits)


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
