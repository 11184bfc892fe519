"""The linear path of a model: scikit-learn, autograd and dense arrays as oracles, what it is fitted on and saved with."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import softmax
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression

from polygene_scverse.data._discriminant import Moments
from polygene_scverse.datasets import simulate
from polygene_scverse.metrics import ece, nll
from polygene_scverse.model import Polygene, _linear_path
from polygene_scverse.model._linear_path import (
    MIX_STRENGTH,
    N_FOLDS,
    PRIOR,
    USUAL_MIX,
    USUAL_TEMPERATURE,
    fit_mix,
    fit_path,
    share_of,
)
from polygene_scverse.model._temperature import fit_temperature

NAMES = ("cell_type", "sex")
USUAL_SHARE = share_of(USUAL_MIX)
QUIET = {"max_epochs": 1, "enable_progress_bar": False}


# how two kinds of logits are mixed


def two_kinds(n, k, weights=(0.8, 0.5), seed=0):
    """Two kinds of logits, and codes drawn from their sum with known weights."""
    rng = np.random.default_rng(seed)
    both = rng.normal(0.0, 2.0, (2, n, k))
    p = softmax(np.tensordot(weights, both, 1), axis=1)
    codes = (rng.random((n, 1)) > p.cumsum(1)).sum(1).clip(max=k - 1)
    return *both, codes


@pytest.mark.parametrize("weights", [(0.8, 0.5), (0.1, 1.5), (1.0, 0.0)], ids=str)
@pytest.mark.parametrize("k", [2, 5])
def test_planted_weights_are_found(k, weights):
    found = fit_mix(*two_kinds(20_000, k, weights))
    np.testing.assert_allclose(found, weights, atol=0.1)


def test_weights_are_the_slopes_of_logistic_regression(monkeypatch):
    """Without the prior."""
    monkeypatch.setattr(_linear_path, "MIX_STRENGTH", 1e-6)
    a, b, codes = two_kinds(20_000, 2)
    x = np.stack([a[:, 1] - a[:, 0], b[:, 1] - b[:, 0]], axis=1)
    slopes = LogisticRegression(C=1e6, fit_intercept=False, tol=1e-8).fit(x, codes).coef_[0]
    np.testing.assert_allclose(fit_mix(a, b, codes), slopes, rtol=1e-3)


def test_weights_are_the_minimum_by_autograd():
    """Of cross-entropy and a normal prior around the usual ones."""
    a, b, codes = two_kinds(61, 4)
    weights = torch.tensor(fit_mix(a, b, codes), dtype=torch.float64, requires_grad=True)
    logits = weights[0] * torch.from_numpy(a) + weights[1] * torch.from_numpy(b)
    likelihood = torch.nn.functional.cross_entropy(logits, torch.from_numpy(codes), reduction="sum")
    prior = torch.distributions.Normal(torch.tensor(USUAL_MIX, dtype=torch.float64), MIX_STRENGTH**-0.5)
    (likelihood - prior.log_prob(weights).sum()).backward()
    np.testing.assert_allclose(weights.grad, 0.0, atol=1e-2)
    assert np.abs(weights.detach().numpy() - USUAL_MIX).max() > 1e-3


@pytest.mark.parametrize("n", [0, 1, 3])
def test_few_cells_hardly_move_the_weights(n):
    """By no more than the slope of their likelihood over the strength of the prior."""
    a, b, codes = two_kinds(n, 3, weights=(1.0, 0.0))
    found, usual = np.array(fit_mix(a, b, codes)), np.array(USUAL_MIX)
    steepest = max((np.ptp(x, axis=1).sum() for x in (a, b)), default=0.0)
    assert np.abs(found - usual).max() <= steepest / MIX_STRENGTH + 1e-6
    assert np.abs(found - usual).max() < 0.3
    if n == 0:
        np.testing.assert_array_equal(found, usual)


@pytest.mark.parametrize("which", [0, 1], ids=["transformer", "linear"])
def test_a_kind_that_is_always_wrong_counts_for_nothing(which):
    *both, codes = two_kinds(2000, 3)
    both[which] = -np.eye(3)[codes]
    found = fit_mix(*both, codes)
    assert found[which] == 0.0
    assert found[1 - which] > 0.3


@pytest.mark.parametrize("which", [0, 1], ids=["transformer", "linear"])
def test_a_kind_that_says_nothing_keeps_its_usual_weight(which):
    *both, codes = two_kinds(2000, 3)
    both[which] = np.zeros_like(both[which])
    assert fit_mix(*both, codes)[which] == pytest.approx(USUAL_MIX[which], abs=1e-4)


def test_single_precision_is_enough():
    a, b, codes = two_kinds(500, 3)
    single = fit_mix(a.astype(np.float32), b.astype(np.float32), codes)
    np.testing.assert_allclose(single, fit_mix(a, b, codes), rtol=1e-4)


def test_large_logits_do_not_overflow():
    a, b, codes = two_kinds(500, 3)
    assert np.isfinite(fit_mix(1e4 * a, 1e4 * b, codes)).all()


@pytest.mark.parametrize(
    ("weights", "share"), [((0.3, 0.7), 0.7), ((2.0, 6.0), 0.75), ((1.0, 0.0), 0.0), ((0.0, 1.0), 1.0), ((0.0, 0.0), 0)]
)
def test_share_by_hand(weights, share):
    assert share_of(weights) == pytest.approx(share)


# discriminants as logits


def gaussian_cells(n, k=3, n_genes=17, shares=None, seed=0):
    """Correlated genes whose mean depends on the category; the means are the same for every seed."""
    rng = np.random.default_rng([seed, 1])
    centres, mixing = (np.random.default_rng(0).normal(size=(m, n_genes)) for m in (k, n_genes))
    codes = rng.choice(k, n, p=shares)
    return (0.5 * centres[codes] + rng.normal(size=(n, n_genes)) @ mixing / 3).astype(np.float32), codes


def folds_of(n, seed=0):
    return np.random.default_rng(seed).permutation(n) % N_FOLDS


def path_of(x, codes, k=3, seed=0):
    return fit_path(lambda rows: x[rows], codes, k, folds_of(len(x), seed))


def by_hand(x, codes, k, folds):
    """Each fold by moments of the other ones, without any subtraction."""
    logits, of_rows = np.zeros((len(x), k)), np.zeros(len(x), dtype=bool)
    for fold in range(N_FOLDS):
        rest, rows = (codes >= 0) & (folds != fold), (codes >= 0) & (folds == fold)
        logits[rows] = Moments.of(x[rest].astype(float), codes[rest], k).discriminants()(x[rows])
        of_rows |= rows
    temperature = USUAL_TEMPERATURE * fit_temperature(logits[of_rows] / USUAL_TEMPERATURE, codes[of_rows])
    known = Moments.of(x[codes >= 0].astype(float), codes[codes >= 0], k)
    found, shares = known.discriminants(), known.counts / known.counts.sum()
    return found.weights / temperature, found.bias / temperature + PRIOR * np.log(shares)


@pytest.mark.parametrize("missing", [0.0, 0.4], ids=["all known", "some unknown"])
def test_scale_is_that_which_predicts_each_fold_best_from_the_others(missing):
    x, codes = gaussian_cells(211, shares=[0.6, 0.3, 0.1])
    codes = np.where(np.random.default_rng(1).random(211) < missing, -1, codes)
    found, (weights, bias) = path_of(x, codes), by_hand(x, codes, 3, folds_of(211))
    np.testing.assert_allclose(found.weights, weights, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.bias, bias, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("n", "n_genes"), [(2000, 17), (600, 499)], ids=["few genes", "many genes"])
def test_probabilities_of_other_cells_are_calibrated(n, n_genes):
    """Where categories are equally frequent. Of many genes they would be far too sure without the temperature."""
    (x, codes), (others, truth) = gaussian_cells(n, n_genes=n_genes), gaussian_cells(4000, n_genes=n_genes, seed=1)
    raw = Moments.of(x, codes, 3).discriminants()(others)
    p = softmax(path_of(x, codes)(others), axis=1)
    assert ece(truth, p) < 0.06
    best = softmax(raw / fit_temperature(raw, truth), axis=1)
    assert nll(truth, p) < nll(truth, best) + 0.02
    if n_genes > n / 2:
        assert ece(truth, softmax(raw, axis=1)) > 0.15


def test_half_of_the_log_share_is_in_a_categorys_logit():
    """Nine cells of one category for each of the other: a ninth of them would ask for log 9, half of it is given."""
    x, codes = gaussian_cells(20_000, 2, n_genes=5, shares=[0.9, 0.1])
    same = np.zeros_like(x)  # genes that tell nothing leave the bias alone
    found = path_of(same, codes, 2)
    assert not found.weights.any()
    assert found.bias[0] - found.bias[1] == pytest.approx(0.5 * np.log(np.mean(codes == 0) / np.mean(codes == 1)))


def test_the_same_seed_gives_the_same_numbers():
    x, codes = gaussian_cells(211)
    a, b, c = (path_of(x, codes, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(a.weights, b.weights)
    np.testing.assert_array_equal(a.bias, b.bias)
    assert not np.array_equal(a.weights, c.weights)  # other folds: another scale
    np.testing.assert_allclose(a.weights, c.weights, rtol=0.2, atol=1e-6)


CODES = {
    "no cell is known": np.full(11, -1),
    "one cell is known": np.r_[np.full(10, -1), 2],
    "one category": np.full(11, 1),
    "a category of one cell": np.r_[np.arange(10) % 2, 2],
    "fewer cells than folds": np.array([0, 1, -1]),
}


@pytest.mark.parametrize("codes", CODES.values(), ids=CODES)
def test_few_cells_give_finite_logits(codes):
    x, _ = gaussian_cells(len(codes))
    found = path_of(x, codes)
    assert np.isfinite(found.weights).all()
    assert np.isfinite(found.bias).all()
    n_cells = np.bincount(codes[codes >= 0], minlength=3)
    assert not found.weights[:, n_cells == 0].any()
    if n_cells.sum() == 0:
        np.testing.assert_array_equal(found.bias, found.bias[0])


# the linear path of a model


def log_cp10k(adata):
    x = adata.X.toarray().astype(np.float64)
    adata = adata.copy()
    adata.X = np.log1p(1e4 * x / x.sum(1, keepdims=True)).astype(np.float32)
    return adata


def made(adata, **kwargs):
    Polygene.setup_anndata(adata, phenotype_keys=list(NAMES))
    small = {"n_hidden": 16, "n_layers": 1, "n_heads": 2, "n_intermediate": 16}
    return Polygene(adata, **{"genes": list(adata.var_names), **small, **kwargs})


@pytest.fixture(scope="module")
def all_cells():
    """520 cells. Expression is log1p, so that a gene that is left out changes no other one."""
    return log_cp10k(simulate(520, 43, missing=0.1, effect=2.0))


@pytest.fixture(scope="module")
def fitted(all_cells):
    """A model of 240 cells, whose share was fitted to another 160. Tests leave it as it is."""
    model = made(all_cells[:400].copy())
    model.train(**QUIET, split=(np.arange(240), np.arange(240, 400)))
    return model


@pytest.fixture
def changed(fitted):
    """The same, for tests that change its weights."""
    state = {name: value.clone() for name, value in fitted.module.state_dict().items()}
    yield fitted
    fitted.module.load_state_dict(state)


@pytest.fixture
def others(all_cells):
    """The other 120 cells, with every phenotype known."""
    others = all_cells[400:].copy()
    others.obs[list(NAMES)] = others.obsm["truth"]
    return others


def expected_path(x, codes, sizes, seed=0):
    """Fitted to dense expression: weights of its standardised genes, bias, and what is known of the genes."""
    cap = x.mean(0) + 5.0 * (x.std(0) + 0.01)
    centre = np.minimum(x, cap).mean(0)
    standard = ((np.minimum(x, cap) - centre) / (x.std(0) + 0.01)).astype(np.float32)
    paths = [path_of(standard, c, k, seed) for c, k in zip(codes.T, sizes, strict=True)]
    weights = np.concatenate([path.weights for path in paths], axis=1) / (x.std(0) + 0.01)[:, None]
    return {"weights": weights, "bias": np.concatenate([path.bias for path in paths]), "cap": cap, "centre": centre}


def assert_path(module, expected, n_genes=None, tolerance=1e-3):
    for name, value in expected.items():
        found = getattr(module.linear, name).numpy()
        found = found if name == "bias" else found[:n_genes]
        np.testing.assert_allclose(found, value, rtol=tolerance, atol=tolerance, err_msg=name)


def codes_of(model, rows):
    return np.stack(list(model.codes(rows).values()), axis=1)


def test_is_fitted_to_the_training_cells(fitted):
    """And to no other ones."""
    rows = np.arange(240)
    assert_path(fitted.module, expected_path(fitted.adata.X[rows].astype(float), codes_of(fitted, rows), [3, 2]))
    assert fitted.module.linear.weights.abs().max() > 0.1


def test_the_seed_decides_the_folds(cells, model_of):
    paths = []
    for seed in (0, 0, 7):
        model = model_of(cells(100))
        model.train(**QUIET, split=(np.arange(60), np.arange(60, 100)), seed=seed)
        paths.append(model.module.linear.weights)
    assert torch.equal(paths[0], paths[1])
    assert not torch.equal(paths[0], paths[2])
    torch.testing.assert_close(paths[0], paths[2], rtol=1.0, atol=0.1)


def test_of_more_cells_a_draw_is_looked_at(monkeypatch, cells, model_of):
    monkeypatch.setattr(_linear_path, "MOST_CELLS", 70)
    model = model_of(log_cp10k(cells(100)))
    model.train(**QUIET, validation_size=0.0, seed=3)
    rows = np.sort(np.random.default_rng(3).permutation(100)[:70])
    x = model.adata.X[rows].astype(float)
    assert_path(model.module, expected_path(x, codes_of(model, rows), [3, 2], seed=3))


def test_of_more_genes_the_first_are_looked_at(monkeypatch, cells, model_of):
    """The others count as nothing, and are not in the way."""
    monkeypatch.setattr(_linear_path, "MOST_GENES", 29)
    model = model_of(log_cp10k(cells(100)))
    model.train(**QUIET, split=(np.arange(80), np.arange(80, 100)))
    rows = np.arange(80)
    expected = expected_path(model.adata.X[rows, :29].astype(float), codes_of(model, rows), [3, 2])
    assert_path(model.module, expected, 29)
    for name in ("weights", "cap", "centre"):
        assert not getattr(model.module.linear, name)[29:].any(), name
    model.module.mix.fill_(1.0)
    some = model.adata.copy()
    some.X[:, 29:] = 0.0
    for name, table in model.predict_phenotype().items():
        np.testing.assert_allclose(model.predict_phenotype(some)[name], table, atol=1e-6)


def test_its_predictions_are_those_of_dense_arrays(changed, others):
    changed.module.mix.fill_(1.0)
    rows = np.arange(240)
    path = expected_path(changed.adata.X[rows].astype(float), codes_of(changed, rows), [3, 2])
    logits = (np.minimum(others.X, path["cap"]) - path["centre"]) @ path["weights"] + path["bias"]
    tables = changed.predict_phenotype(others)
    for name, part in zip(NAMES, np.split(logits, [3], axis=1), strict=True):
        np.testing.assert_allclose(tables[name], softmax(part / changed.temperature(name), axis=1), atol=1e-3)


def test_it_tells_categories_apart(changed, others):
    """Nearly as well as scikit-learn's discriminants."""
    changed.module.mix.fill_(1.0)
    x, rows = changed.adata.X[:240], codes_of(changed, np.arange(240))
    for i, (name, table) in enumerate(changed.predict_phenotype(others).items()):
        truth = others.obs[name].cat.codes.to_numpy()
        theirs = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.6).fit(
            x[rows[:, i] >= 0], rows[rows[:, i] >= 0, i]
        )
        accuracy = np.mean(table.to_numpy().argmax(1) == truth)
        assert accuracy > max(0.75, theirs.score(others.X, truth) - 0.05)


# its share


def test_the_share_is_that_of_the_held_out_cells(changed):
    """By the logits of either path alone."""
    model, rows = changed, np.arange(240, 400)
    table, found = model._table(model.adata, rows), model.module.mix.tolist()
    logits = []
    for mix in (0.0, 1.0):
        model.module.mix.fill_(mix)
        logits.append(model._logits_of(table))
    for i in range(2):
        known = table.codes[:, i] >= 0
        assert not known.all()
        expected = share_of(fit_mix(*(kind[i][known] for kind in logits), table.codes[known, i]))
        assert found[i] == pytest.approx(expected, abs=1e-4)
        assert found[i] != pytest.approx(USUAL_SHARE, abs=1e-4)


def test_without_held_out_cells_it_is_the_usual_one(cells, trained):
    model = trained(cells(60), validation_size=0.0)
    np.testing.assert_allclose(model.module.mix, USUAL_SHARE, rtol=1e-6)


def test_without_held_out_cells_of_known_category_it_is_the_usual_one(cells, model_of):
    adata = cells(100)
    adata.obs.iloc[60:, adata.obs.columns.get_loc("sex")] = np.nan
    model = model_of(adata)
    model.train(**QUIET, split=(np.arange(60), np.arange(60, 100)))
    assert model.module.mix[1].item() == pytest.approx(USUAL_SHARE)
    assert model.module.mix[0].item() != pytest.approx(USUAL_SHARE, abs=1e-4)


def test_the_path_that_is_right_alone_gets_the_share(changed):
    """A transformer that always says the same, surely; then discriminants that say the opposite."""
    model = changed
    table = model._table(model.adata, np.arange(240, 400))
    firsts = [slot.ids[0] for slot in model.layout.phenotypes]
    model.module.head.bias.data[firsts] += 9.0
    model._fit_mix(table)
    assert (model.module.mix > 0.95).all()
    model.module.head.bias.data[firsts] -= 9.0
    model.module.linear.weights *= -1.0
    model._fit_mix(table)
    assert (model.module.mix < 0.1).all()


def test_a_second_training_fits_it_anew(cells, model_of):
    model = model_of(log_cp10k(cells(100)))
    model.train(**QUIET, split=(np.arange(60), np.arange(60, 100)))
    model.train(**QUIET, split=(np.arange(20, 100), np.arange(20)))
    rows = np.arange(20, 100)
    assert_path(model.module, expected_path(model.adata.X[rows].astype(float), codes_of(model, rows), [3, 2]))


def test_a_model_may_have_none(cells, trained):
    model = trained(cells(100), {"linear_path": False})
    assert model.module.linear is None
    assert not model.module.mix.any()
    assert not [name for name in model.module.state_dict() if name.startswith("linear")]
    assert np.isfinite(model.get_latent_representation()).all()


# what becomes of it


def test_saved_with_the_model(fitted, others, tmp_path):
    assert (fitted.module.mix > 0).all()
    fitted.save(tmp_path / "model")
    loaded = Polygene.load(tmp_path / "model", adata=False)
    for name, value in fitted.module.state_dict().items():
        assert torch.equal(loaded.module.state_dict()[name], value), name
    for given in (None, "sex"):
        expected = fitted.predict_phenotype(others, given=given)
        for name, table in loaded.predict_phenotype(others, given=given).items():
            pd.testing.assert_frame_equal(table, expected[name], check_exact=True)
    np.testing.assert_array_equal(loaded.get_latent_representation(others), fitted.get_latent_representation(others))


def test_genes_that_tell_nothing_may_be_unmeasured(changed, others):
    """Average takes their place: predictions hardly change. As not expressed they would change far more."""
    changed.module.mix.fill_(1.0)
    silent = (others.var["phenotype"] == "").to_numpy()
    assert silent.sum() > 20
    expected, zero = changed.predict_phenotype(others), others.copy()
    zero.X[:, silent] = 0.0
    with pytest.warns(UserWarning, match="of the model's 43 genes are unmeasured"):
        found = changed.predict_phenotype(others[:, ~silent].copy())
    as_zero = changed.predict_phenotype(zero)
    for name in NAMES:
        p, q, r = (tables[name].to_numpy() for tables in (expected, found, as_zero))
        assert np.mean(p.argmax(1) == q.argmax(1)) > 0.85
        assert np.abs(p - q).mean() < min(0.1, np.abs(p - r).mean())


def test_unmeasured_genes_are_those_whose_mean_was_measured(changed, others):
    changed.module.mix.fill_(1.0)
    kept = np.arange(43) % 5 != 2
    filled = others.copy()
    filled.X[:, ~kept] = changed.module.linear.centre.numpy()[~kept]
    with pytest.warns(UserWarning, match="9 of the model's 43 genes are unmeasured"):
        found = changed.predict_phenotype(others[:, kept].copy())
    for name, table in changed.predict_phenotype(filled).items():
        np.testing.assert_allclose(found[name], table, atol=1e-5)


def test_cells_that_express_nothing_are_predicted(changed, others):
    """All of a batch, so that no gene is shown at all."""
    changed.module.mix.fill_(1.0)
    silent = others[:7].copy()
    silent.X[:] = 0.0
    silent.X[0, 0] = others.X.max()  # so that the scale is told
    table = changed.predict_phenotype(silent, batch_size=1)["cell_type"].to_numpy()
    path = {name: buffer.numpy() for name, buffer in changed.module.linear.named_buffers()}
    logits = (path["bias"] - path["centre"] @ path["weights"])[:3] / changed.temperature("cell_type")
    np.testing.assert_allclose(table[1:], np.tile(softmax(logits), (6, 1)), atol=1e-5)


def test_given_phenotypes_move_predictions_as_they_move_those_of_the_transformer(changed, others):
    """By the same in the logits, whatever the share."""
    moved, generator = [], torch.Generator().manual_seed(0)
    for p in changed.module.parameters():  # after one epoch nothing that is given moves much
        p.data += 0.3 * torch.randn(p.shape, generator=generator)
    for mix in (0.0, 0.7):
        changed.module.mix.fill_(mix)
        given, hidden = (
            np.log(changed.predict_phenotype(others, given=g)["cell_type"].to_numpy(float)) for g in ("sex", None)
        )
        moved.append((given - hidden) - (given - hidden).mean(1, keepdims=True))
    assert np.abs(moved[0]).max() > 0.1
    np.testing.assert_allclose(*moved, atol=1e-3)
