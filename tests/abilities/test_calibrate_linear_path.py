"""The linear path of a model: what it is fitted on, its share, what it predicts, and what it is saved with."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import softmax
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.metrics import log_loss

from polygene_scverse.abilities import _calibrate
from polygene_scverse.abilities._calibrate import fit_shares
from polygene_scverse.abilities._predict import phenotype_logits
from polygene_scverse.datasets import simulate
from polygene_scverse.engine import Engine
from polygene_scverse.fit._linear_path import N_FOLDS, USUAL_WEIGHTS, fit_discriminants, fit_path_weights, share_of
from polygene_scverse.model import Polygene
from polygene_scverse.module import _linear_path

NAMES = ("cell_type", "sex")
USUAL_SHARE = share_of(USUAL_WEIGHTS)
QUIET = {"max_epochs": 1, "enable_progress_bar": False}


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
def changed(fitted, apart):
    """The same, for tests that change its weights or its share."""
    state = {name: value.clone() for name, value in fitted.module.state_dict().items()}
    yield apart(fitted)
    fitted.module.load_state_dict(state)


@pytest.fixture
def others(all_cells):
    """The other 120 cells, with every phenotype known."""
    others = all_cells[400:].copy()
    others.obs[list(NAMES)] = others.obsm["truth"]
    return others


def per_thousand(x):
    """log1p of counts per 1,000 of that of counts per 10,000."""
    return np.log1p(np.expm1(x.astype(float)) / 10.0)


def expected_path(x, codes, sizes, seed=0):
    """Fitted to dense expression: weights of its standardised genes, bias, and what is known of the genes."""
    x = per_thousand(x)
    cap = x.mean(0) + 5.0 * (x.std(0) + 0.2)
    centre = np.minimum(x, cap).mean(0)
    standard = ((np.minimum(x, cap) - centre) / (x.std(0) + 0.2)).astype(np.float32)
    folds = np.random.default_rng(seed).permutation(len(x)) % N_FOLDS
    paths = [fit_discriminants(lambda rows: standard[rows], c, k, folds) for c, k in zip(codes.T, sizes, strict=True)]
    weights = np.concatenate([path.weights for path in paths], axis=1) / (x.std(0) + 0.2)[:, None]
    counts = [np.bincount(c[c >= 0], minlength=k) for c, k in zip(codes.T, sizes, strict=True)]
    prior = 0.5 * np.log(np.concatenate([n / n.sum() for n in counts]))
    bias = np.concatenate([path.bias for path in paths])
    return {"weights": weights, "bias": bias, "prior": prior, "cap": cap, "centre": centre}


def assert_path(module, expected, n_genes=None, tolerance=1e-3):
    for name, value in expected.items():
        found = getattr(module.linear, name).numpy()
        found = found if name in ("bias", "prior") else found[:n_genes]
        np.testing.assert_allclose(found, value, rtol=tolerance, atol=tolerance, err_msg=name)


def codes_of(model, rows):
    return np.stack(list(model.codes(rows).values()), axis=1)


def test_is_fitted_to_the_training_cells(fitted):
    """And to no other ones."""
    rows = np.arange(240)
    assert_path(fitted.module, expected_path(fitted.adata.X[rows], codes_of(fitted, rows), [3, 2]))
    assert fitted.module.linear.weights.abs().max() > 0.1


def test_the_seed_decides_the_folds(cells, model_of):
    paths = []
    for seed in (0, 0, 7):
        model = model_of(cells(100))
        model.train(**QUIET, split=(np.arange(60), np.arange(60, 100)), seed=seed)
        paths.append(model.module.linear.weights)
    assert torch.equal(paths[0], paths[1])
    assert not torch.equal(paths[0], paths[2])
    both = np.corrcoef(paths[0].numpy().ravel(), paths[2].numpy().ravel())
    assert both[0, 1] > 0.95


def test_of_more_cells_a_draw_is_looked_at(monkeypatch, cells, model_of):
    monkeypatch.setattr(_calibrate, "MAX_CELLS", 70)
    model = model_of(log_cp10k(cells(100)))
    model.train(**QUIET, validation_size=0.0, seed=3)
    rows = np.sort(np.random.default_rng(3).permutation(100)[:70])
    x = model.adata.X[rows]
    assert_path(model.module, expected_path(x, codes_of(model, rows), [3, 2], seed=3))


def test_of_more_genes_the_first_are_looked_at(monkeypatch, cells, model_of):
    """The others count as nothing, and are not in the way."""
    monkeypatch.setattr(_calibrate, "MAX_CANDIDATES", 29)
    model = model_of(log_cp10k(cells(100)))
    model.train(**QUIET, split=(np.arange(80), np.arange(80, 100)))
    rows = np.arange(80)
    expected = expected_path(model.adata.X[rows, :29], codes_of(model, rows), [3, 2])
    assert_path(model.module, expected, 29)
    for name in ("weights", "cap", "centre"):
        assert not getattr(model.module.linear, name)[29:].any(), name
    model.fitted_.linear_share[:] = [1.0, 1.0]
    some = model.adata.copy()
    some.X[:, 29:] = 0.0
    model.fitted_.shares = {}  # else totals would be those of the other genes
    for name, table in model.predict_phenotype().items():
        np.testing.assert_allclose(model.predict_phenotype(some)[name], table, atol=1e-6)


def test_its_predictions_are_those_of_dense_arrays(changed, others):
    changed.fitted_.linear_share[:] = [1.0, 1.0]
    rows = np.arange(240)
    path = expected_path(changed.adata.X[rows], codes_of(changed, rows), [3, 2])
    logits = (np.minimum(per_thousand(others.X), path["cap"]) - path["centre"]) @ path["weights"] + path["bias"]
    usual, slopes = (getattr(changed.module.linear, name).numpy() for name in ("usual", "slopes"))
    depths = np.minimum((others.X > 0).sum(axis=1, keepdims=True) / usual.sum(), 1.0)
    assert (depths < 1).any()
    logits = path["prior"] + depths**slopes * (logits - path["prior"])
    tables = changed.predict_phenotype(others)
    for name, part in zip(NAMES, np.split(logits, [3], axis=1), strict=True):
        np.testing.assert_allclose(tables[name], softmax(part / changed.temperature(name), axis=1), atol=1e-3)


def test_it_tells_categories_apart(changed, others):
    """Nearly as well as scikit-learn's discriminants."""
    changed.fitted_.linear_share[:] = [1.0, 1.0]
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
    table, found = model._cells(model.adata, rows).read_all(), list(model.fitted_.linear_share)
    logits = []
    for mix in (0.0, 1.0):
        model.fitted_.linear_share[:] = [mix, mix]
        logits.append(phenotype_logits(Engine(model.module), model.fitted_, table))
    for i in range(2):
        known = table.codes[:, i] >= 0
        assert not known.all()
        expected = share_of(fit_path_weights(*(kind[i][known] for kind in logits), table.codes[known, i]))
        assert found[i] == pytest.approx(expected, abs=1e-4)
        assert found[i] != pytest.approx(USUAL_SHARE, abs=1e-4)


def test_without_held_out_cells_it_is_the_usual_one(cells, trained):
    model = trained(cells(60), validation_size=0.0)
    np.testing.assert_allclose(model.fitted_.linear_share, USUAL_SHARE, rtol=1e-6)


def test_without_held_out_cells_of_known_category_it_is_the_usual_one(cells, model_of):
    adata = cells(100)
    adata.obs.iloc[60:, adata.obs.columns.get_loc("sex")] = np.nan
    model = model_of(adata)
    model.train(**QUIET, split=(np.arange(60), np.arange(60, 100)))
    assert model.fitted_.linear_share[1] == pytest.approx(USUAL_SHARE)
    assert model.fitted_.linear_share[0] != pytest.approx(USUAL_SHARE, abs=1e-4)


def test_the_path_that_is_right_alone_gets_the_share(changed):
    """A transformer that always says the same, surely; then discriminants that say the opposite."""
    model = changed
    table = model._cells(model.adata, np.arange(240, 400)).read_all()
    firsts = [slot.ids[0] for slot in model.layout.phenotypes]
    model.module.head.bias.data[firsts] += 9.0
    fit_shares(Engine(model.module), model.fitted_, table)
    assert min(model.fitted_.linear_share) > 0.95
    model.module.head.bias.data[firsts] -= 9.0
    model.module.linear.weights *= -1.0
    fit_shares(Engine(model.module), model.fitted_, table)
    assert max(model.fitted_.linear_share) < 0.1


def loss_of(model, table, share):
    """Loss of the held-out cells by both paths, with weights fitted to them, if the transformer reads some genes."""
    model.module.linear.limit(share)
    logits, losses, shares = [], [], []
    for mix in (0.0, 1.0):
        model.fitted_.linear_share[:] = [mix, mix]
        logits.append(phenotype_logits(Engine(model.module), model.fitted_, table))
    for i, codes in enumerate(table.codes.T):
        own, linear, codes = (part[codes >= 0] for part in (logits[0][i], logits[1][i], codes))
        a, b = fit_path_weights(own, linear, codes)
        shares.append(share_of((a, b)))
        losses.append(log_loss(codes, softmax(a * own + b * linear, axis=1), labels=np.arange(own.shape[1])))
    return np.mean(losses), shares


@pytest.mark.parametrize("of_new_groups", [False, True])
@pytest.mark.parametrize("margin", ["none", "some", "half", "all"])
def test_the_transformer_reads_the_fewest_genes_with_which_held_out_cells_are_as_likely(
    changed, monkeypatch, margin, of_new_groups
):
    model = changed
    monkeypatch.setattr(_linear_path, "FEWEST", 1)
    generator = torch.Generator().manual_seed(1)
    for p in model.module.parameters():  # after one epoch genes hardly matter to the transformer
        p.data += 0.2 * torch.randn(p.shape, generator=generator)
    table = model._cells(model.adata, np.arange(240, 400)).read_all()
    found = {share: loss_of(model, table, share) for share in (0.25, 0.5, 1.0)}
    quarter, half = (found[share][0] - found[1.0][0] for share in (0.25, 0.5))
    assert half < quarter  # so that a margin between them selects half of the genes
    margins = {"none": -np.inf, "some": half - 1e-6, "half": (half + quarter) / 2, "all": quarter + 1e-6}
    monkeypatch.setattr(_calibrate, "READ_LOSS", margins[margin])
    fit_shares(Engine(model.module), model.fitted_, table, of_new_groups=of_new_groups)
    expected = {"none": 1.0, "some": 1.0, "half": 0.5, "all": 0.25 if of_new_groups else 0.5}[margin]
    assert float(model.module.linear.share_read) == expected
    np.testing.assert_allclose(model.fitted_.linear_share, found[expected][1], rtol=1e-4)


@pytest.mark.parametrize(("group_key", "share"), [(None, 0.5), ("donor", 0.25)])
def test_how_many_genes_are_read_without_held_out_cells(cells, trained, group_key, share):
    adata = cells(60)
    adata.obs["donor"] = np.resize(["d1", "d2", "d3"], adata.n_obs)
    model = trained(adata, group_key=group_key, validation_size=0.0)
    assert float(model.module.linear.share_read) == share


def test_a_second_training_fits_it_anew(cells, model_of):
    model = model_of(log_cp10k(cells(100)))
    model.train(**QUIET, split=(np.arange(60), np.arange(60, 100)))
    model.train(**QUIET, split=(np.arange(20, 100), np.arange(20)))
    rows = np.arange(20, 100)
    assert_path(model.module, expected_path(model.adata.X[rows], codes_of(model, rows), [3, 2]))


def test_a_model_may_have_none(cells, trained):
    model = trained(cells(100), {"linear_path": False})
    assert model.module.linear is None
    assert model.fitted_.linear_share == []
    assert not [name for name in model.module.state_dict() if name.startswith("linear")]
    assert np.isfinite(model.get_latent_representation()).all()


# what becomes of it


def test_saved_with_the_model(fitted, others, tmp_path):
    assert min(fitted.fitted_.linear_share) > 0
    fitted.save(tmp_path / "model")
    loaded = Polygene.load(tmp_path / "model", adata=False)
    for name, value in fitted.module.state_dict().items():
        assert torch.equal(loaded.module.state_dict()[name], value), name
    assert loaded.fitted_.linear_share == fitted.fitted_.linear_share
    for given in (None, "sex"):
        expected = fitted.predict_phenotype(others, given=given)
        for name, table in loaded.predict_phenotype(others, given=given).items():
            pd.testing.assert_frame_equal(table, expected[name], check_exact=True)
    np.testing.assert_array_equal(loaded.get_latent_representation(others), fitted.get_latent_representation(others))


def test_genes_that_tell_nothing_may_be_unmeasured(changed, others):
    """Average takes their place: predictions hardly change. As not expressed they would change far more."""
    changed.fitted_.linear_share[:] = [1.0, 1.0]
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
    """Where nothing is kept that discriminants of the measured genes follow from."""
    changed.fitted_.linear_share[:], changed.fitted_.panels = [1.0, 1.0], None
    changed.module.linear.forget_depth()  # else cells that express fewer genes are less certain
    kept = np.arange(43) % 5 != 2
    filled = others.copy()
    filled.X[:, ~kept] = np.log1p(10.0 * np.expm1(changed.module.linear.centre.numpy()[~kept]))
    with pytest.warns(UserWarning, match="9 of the model's 43 genes are unmeasured"):
        found = changed.predict_phenotype(others[:, kept].copy())
    changed.fitted_.shares = {}  # else totals would be those of what is filled in
    filled.uns["log1p"] = {"base": None}  # these are no counts of cells: that they are logarithms must be noted
    with pytest.warns(UserWarning, match="the target sum of the normalisation is unknown.* per 10,000"):
        expected = changed.predict_phenotype(filled)
    for name, table in expected.items():
        np.testing.assert_allclose(found[name], table, atol=1e-5)


def test_cells_that_express_nothing_are_predicted(changed, others):
    """All of a batch, so that no gene is shown at all."""
    changed.fitted_.linear_share[:] = [1.0, 1.0]
    silent = others[:7].copy()
    silent.X[1:] = 0.0  # the first tells the scale
    table = changed.predict_phenotype(silent, batch_size=1)["cell_type"].to_numpy()
    path = {name: buffer.numpy() for name, buffer in changed.module.linear.named_buffers()}
    average = path["bias"] - path["centre"] @ path["weights"]
    logits = (path["prior"] + 0.0 ** path["slopes"] * (average - path["prior"]))[:3] / changed.temperature("cell_type")
    np.testing.assert_allclose(table[1:], np.tile(softmax(logits), (6, 1)), atol=1e-5)


def test_given_phenotypes_move_predictions_as_they_move_those_of_the_transformer(changed, others):
    """By the same in the logits, whatever the share."""
    moved, generator = [], torch.Generator().manual_seed(0)
    for p in changed.module.parameters():  # after one epoch nothing that is given moves much
        p.data += 0.3 * torch.randn(p.shape, generator=generator)
    for mix in (0.0, 0.7):
        changed.fitted_.linear_share[:] = [mix, mix]
        given, hidden = (
            np.log(changed.predict_phenotype(others, given=g)["cell_type"].to_numpy(float)) for g in ("sex", None)
        )
        moved.append((given - hidden) - (given - hidden).mean(1, keepdims=True))
    assert np.abs(moved[0]).max() > 0.1
    np.testing.assert_allclose(*moved, atol=1e-3)
