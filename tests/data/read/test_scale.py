"""What numbers mean: each kind of scale is read as the raw counts would be, or refused in words."""

import math
import warnings

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import scipy.sparse as sp

import polygene_scverse as pgs
from polygene_scverse.data.read._expression import Expression
from polygene_scverse.data.read._scale import OURS, Scale, detect_scale, unlike_cells


def cells(seed=0, **kwargs):
    return pgs.datasets.simulate(**({"n_obs": 300, "n_vars": 150, "seed": seed, "effect": 1.5} | kwargs))


def train(adata, **kwargs):
    settings = {"phenotypes": ["cell_type"], "max_epochs": 1, "verbose": False, "n_genes": 100}
    return pgs.tl.train(adata, **(settings | kwargs))


@pytest.fixture(scope="module")
def model():
    return train(cells(n_obs=600))


@pytest.fixture(scope="module")
def new():
    return cells(seed=1, n_obs=200)


@pytest.fixture(scope="module")
def right(model, new):
    return proba(model, new)


def proba(model, adata, said=None):
    """Probabilities, without a word unless one is expected."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        if said is None:
            return model.predict_phenotype(adata)["cell_type"].to_numpy()
    with warnings.catch_warnings(), pytest.warns(UserWarning, match=said):
        return model.predict_phenotype(adata)["cell_type"].to_numpy()


def logged(adata, target=1e4, base=None):
    q = adata.copy()
    sc.pp.normalize_total(q, target_sum=target)
    sc.pp.log1p(q, base=base)
    return q


def scaled(adata):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return sc.pp.scale(adata, copy=True)


def with_values(adata, change):
    q = adata.copy()
    q.X = sp.csr_matrix(q.X).astype(np.float32)
    q.X.data = change(q.X.data).astype(np.float32)
    return q


def by_gene(adata, of):
    q = adata.copy()
    x = q.X.toarray()
    q.X = sp.csr_matrix(x / np.maximum(of(x, axis=0), 1e-9))
    return q


@pytest.mark.parametrize("noted", [True, False], ids=["noted", "not noted"])
@pytest.mark.parametrize("base", [None, 2, 10])
@pytest.mark.parametrize("target", [None, 1e3, 1e4, 1e6])
def test_normalised_to_anything(model, new, right, target, base, noted):
    q = logged(new, target, base)
    if not noted:
        del q.uns["log1p"]
    # log1p of counts per 10,000 is taken as it stands: scanpy rounds otherwise, which edges of bins may notice
    np.testing.assert_allclose(proba(model, q), right, atol=5e-3 if target == 1e4 and base is None else 1e-4)


def test_uncommon_base(model, new, right):
    np.testing.assert_allclose(proba(model, logged(new, None, 3)), right, atol=1e-4)


@pytest.mark.parametrize("base", [None, 2])
@pytest.mark.parametrize("target", [None, 1e3, 1e4, 1e6])
def test_genes_cut_after_normalisation(model, new, target, base):
    """The totals of cells are whole numbers for one target only."""
    some = np.arange(0, new.n_vars, 3)
    by_other, ours = logged(new, 1e5)[:, some].copy(), logged(new)[:, some].copy()
    scale = Expression.of(logged(new, target, base)[:, some].copy()).scale
    median = float(np.median(np.asarray(new.X.sum(1))))
    assert (scale.base, scale.target, scale.complete, scale.told) == (base or math.e, target or median, False, True)
    found = proba(model, logged(new, target, base)[:, some].copy(), "unmeasured")
    np.testing.assert_allclose(found, proba(model, ours, "unmeasured"), atol=5e-3)
    if not scale.is_ours:
        np.testing.assert_allclose(found, proba(model, by_other, "unmeasured"), atol=1e-4)


def test_few_genes_cut_after_normalisation_of_decimals(new):
    q = with_values(new, lambda v: v - np.random.default_rng(0).uniform(0, 0.4, len(v)))
    scale = Expression.of(logged(q)[:, 1:].copy()).scale
    assert (str(scale), scale.complete) == ("log1p of counts per 10,000", False)


@pytest.mark.parametrize(
    "values",
    [
        lambda v: np.minimum(v, 12) * np.float32(0.93),
        lambda v: v * np.float32(19.7),
        lambda v: v * np.float32(0.031),
    ],
    ids=["shallow", "deep", "far below 1"],
)
def test_counts_times_a_number(model, new, values):
    """What is proportional to counts within a cell is read as these are."""
    shallow = with_values(new, lambda v: np.minimum(v, 12)) if values(np.float32(100)) < 50 else new
    if values(np.float32(100)) < 5:
        shallow = new
    np.testing.assert_allclose(proba(model, with_values(new, values)), proba(model, shallow), atol=1e-4)


@pytest.mark.parametrize("kind", ["ambient", "RSEM", "denoised", "deep"])
def test_counts_with_decimals(new, kind):
    rng = np.random.default_rng(0)
    change = {
        "ambient": lambda v: v - rng.uniform(0, 0.4, len(v)),
        "RSEM": lambda v: v + np.where(rng.random(len(v)) < 0.3, rng.uniform(-0.5, 0.5, len(v)), 0),
        "denoised": lambda v: v * rng.uniform(0.8, 1, len(v)),
        "deep": lambda v: 30 * v * rng.uniform(0.5, 1, len(v)),
    }[kind]
    assert Expression.of(with_values(new, change)).scale.kind == "counts"


def test_normalised_but_not_logged(model, new, right):
    q = new.copy()
    sc.pp.normalize_total(q)
    np.testing.assert_allclose(proba(model, q), right, atol=1e-4)


def test_logged_but_not_normalised(model, new, right):
    q = new.copy()
    sc.pp.log1p(q)
    assert str(Expression.of(q).scale) == "log1p of counts"
    np.testing.assert_allclose(proba(model, q), right, atol=1e-4)


def test_samples_normalised_one_by_one(model, new, right):
    parts = [logged(new[i : i + 50].copy(), None) for i in range(0, 200, 50)]
    q = ad.concat(parts)
    np.testing.assert_allclose(proba(model, q), right, atol=1e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda q: with_values(q, np.sqrt), r"square roots of counts, .* Square them"),
        (lambda q: with_values(logged(q), np.log1p), r"logarithms of logarithms, .* Undo one"),
        (lambda q: with_values(logged(q)[:, ::3].copy(), np.log1p), r"logarithms of logarithms, .* Undo one"),
        (lambda q: with_values(q, np.arcsinh), r"inverse hyperbolic sines"),
        (lambda q: with_values(q, lambda v: np.sqrt(v) + np.sqrt(v + 1) - 1), r"Freeman-Tukey .* Undo it"),
        (lambda q: with_values(logged(q), lambda v: v / v.max()), r"cannot be determined"),
        (lambda q: by_gene(logged(q), np.max), r"cannot be determined"),
        (lambda q: scaled(logged(q)), r"negative values"),
        (lambda q: sc.pp.scale(logged(q), zero_center=False, copy=True), r"cannot be determined.*round them"),
        (lambda q: ad.concat([q[:100], logged(q)[100:]]), r"100 rows|32 contain counts and 32 logarithms"),
        (lambda q: with_values(q, np.zeros_like), r"has no value above 0"),
        (lambda q: with_values(q, lambda v: np.where(v > 5, np.nan, v)), r"are NaN"),
    ],
    ids=[
        "sqrt",
        "twice",
        "twice, cut",
        "asinh",
        "Freeman-Tukey",
        "of the largest",
        "of the largest of a gene",
        "z",
        "scaled",
        "mixed",
        "zero",
        "nan",
    ],
)
def test_refused_with_the_right_remedy(model, new, change, message):
    q = change(new)
    with pytest.raises(ValueError, match=r"`adata`: .*" + message) as error:
        model.predict_phenotype(q)
    assert "layer=" not in str(error.value)  # which the verb does not have
    assert "log1p(adata)" not in str(error.value)


def test_deep_decimals_are_not_told_to_take_the_logarithm(model, new, right):
    np.testing.assert_allclose(proba(model, with_values(new, lambda v: v * np.float32(19.7))), right, atol=1e-4)


def test_remedies_are_usable_and_other_data(new):
    q = with_values(new, np.sqrt)
    q.layers["same"], q.layers["counts"], q.layers["scaled"] = q.X.copy(), new.X.copy(), -new.X
    with pytest.raises(ValueError, match=r"here for example by layer='counts'\.$"):
        train(q)
    with pytest.raises(ValueError, match=r"here for example by adata\.X = adata\.layers\['counts'\]\.$"):
        train(new).predict_phenotype(q)


def test_the_target_that_cannot_be_told_is_said_once(model, new):
    rng = np.random.default_rng(0)
    q = logged(with_values(new, lambda v: v * rng.uniform(0.5, 1, len(v))))[:, ::3].copy()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        model.predict_phenotype(q)
    assert sum("is unknown. It is read as" in str(w.message) for w in said) == 1
    del q.uns["log1p"]
    with pytest.raises(ValueError, match="cannot be determined"):
        model.predict_phenotype(q)


@pytest.mark.parametrize(
    ("n_rows", "n_draws"), [(16, 5), (64, 30), (256, 5), pytest.param(64, 300, marks=pytest.mark.slow)]
)
def test_values_that_tell_no_target_are_not_fitted_by_chance(n_rows, n_draws):
    """Of half a million sums one fits the few cells that tell, if misses of the others are allowed."""
    x, rng = pgs.datasets.pbmc68k().X, np.random.default_rng(0)
    for _ in range(n_draws):
        scale = detect_scale(x[np.sort(rng.choice(700, n_rows, replace=False))])
        assert (scale.base, scale.target, scale.told) == (math.e, 1e4, False)


def test_totals_in_obs_tell_the_target(new):
    q = logged(new, 2000)[:, ::3].copy()
    q.X.data = np.round(q.X.data, 3)  # as in files of long ago
    q.obs["n_counts"] = np.asarray(new.X.sum(1)).ravel()
    assert Expression.of(q).scale.target == pytest.approx(2000, rel=0.01)


def test_ours_is_not_touched():
    x = sp.random(20, 30, 0.3, format="csr", dtype=np.float32, random_state=0)
    assert OURS.to_log1p(x) is x.data


def test_pbmc_is_as_it_was():
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        assert Expression.of(pgs.datasets.pbmc68k()).scale.is_ours


@pytest.mark.parametrize(
    ("scale", "words"),
    [
        (Scale("counts"), "counts"),
        (Scale("log", target=1e6), "log1p of counts per 1,000,000"),
        (Scale("log", target=2741.5), "log1p of counts per 2,741.5"),
        (Scale("log", 2.0, 1e4), "log2(1 + x) of counts per 10,000"),
        (Scale("log"), "log1p of counts"),
    ],
)
def test_words(scale, words):
    assert str(scale) == words


@pytest.mark.parametrize("change", [lambda q: q, logged, lambda q: logged(q, None), lambda q: logged(q, 1e6, 2)])
def test_one_cell_does_not_change_the_answer_of_another(model, new, change):
    """Whichever rows are asked for, the data set is judged."""
    q = change(new)
    every = model.predict_phenotype(q)["cell_type"].to_numpy()
    alone = model.predict_phenotype(q, indices=[7])["cell_type"].to_numpy()
    np.testing.assert_allclose(alone[0], every[7], atol=1e-5)


@pytest.mark.parametrize("target", [1e4, 1e3, None])
def test_one_cell(model, new, right, target):
    q = logged(new, target)[3:4].copy()
    np.testing.assert_allclose(model.predict_phenotype(q)["cell_type"].to_numpy()[0], right[3], atol=1e-4)


def test_few_rows_are_read(new, monkeypatch):
    rows = []
    real = Expression.rows
    monkeypatch.setattr(Expression, "rows", lambda self, r: rows.extend(r) or real(self, r))
    big = ad.concat([logged(new, None)] * 10, index_unique="-")
    expression = Expression.of(big)
    assert expression.scale.kind == "log"
    assert expression.sample.shape[0] <= 64
    assert not rows


# totals


@pytest.fixture(scope="module")
def wide():
    """A model of 60 of 400 genes, and other cells."""
    return train(cells(n_obs=600, n_vars=400), n_genes=60), cells(seed=1, n_obs=200, n_vars=400)


def test_counts_cut_to_the_genes_of_the_model(wide):
    """Totals are put up by the share of the counts that these genes had in training."""
    model, new = wide
    right = proba(model, logged(new))
    cut = new[:, model.genes].copy()
    found = proba(model, cut, "total counts of cells, which are needed for normalisation, are estimated")
    assert np.abs(found - right).mean() < 0.08
    model.fitted_.shares, shares = {}, model.fitted_.shares
    without = proba(model, cut)
    model.fitted_.shares = shares
    assert np.abs(found - right).mean() < 0.6 * np.abs(without - right).mean()


def test_cut_before_the_normalisation(wide):
    model, new = wide
    cut = new[:, model.genes].copy()
    counts = proba(model, cut, "estimated")
    np.testing.assert_allclose(proba(model, logged(cut), "estimated"), counts, atol=1e-4)
    np.testing.assert_allclose(proba(model, logged(cut, None), "estimated"), counts, atol=1e-4)


def test_cut_after_the_normalisation(wide):
    model, new = wide
    np.testing.assert_allclose(
        proba(model, logged(new)[:, model.genes].copy()), proba(model, new), atol=1e-4
    )  # without a word


@pytest.mark.parametrize("change", [lambda q: q, logged], ids=["counts", "log1p"])
def test_model_of_variable_genes_asked_on_all(change):
    """Trained on counts of 60 genes: these make the totals of new cells too, exactly."""
    genes = [f"gene_{i}" for i in range(0, 180, 3)]
    model = train(cells(n_obs=600, n_vars=400)[:, genes].copy(), n_genes=60)
    new = cells(seed=1, n_vars=400)
    np.testing.assert_allclose(proba(model, change(new)), proba(model, new[:, genes].copy()), atol=1e-4)


def with_proteins(adata, told):
    """Ten proteins with most of the counts, as in CITE-seq."""
    rng = np.random.default_rng(5)
    proteins = ad.AnnData(
        sp.csr_matrix(rng.poisson(100, (adata.n_obs, 10)).astype(np.float32)),
        obs=adata.obs[[]],
        var=pd.DataFrame(index=[f"CD{i}" for i in range(10)]),
    )
    both = ad.concat([adata, proteins], axis=1, merge="first")
    both.obs = adata.obs.copy()
    if told:
        both.var["feature_types"] = ["Gene Expression"] * adata.n_vars + ["Antibody Capture"] * 10
    return both


@pytest.mark.parametrize("told", [True, False], ids=["feature_types", "not told"])
@pytest.mark.parametrize("change", [lambda q: q, logged, lambda q: logged(q, None, 2)], ids=["counts", "log1p", "log2"])
def test_proteins_among_the_genes_of_new_cells(model, new, right, change, told):
    np.testing.assert_allclose(proba(model, change(with_proteins(new, told))), right, atol=1e-4)


def test_proteins_among_the_genes_of_training(model, new):
    """They have no part in totals, so that new cells without them are read alike."""
    both = with_proteins(cells(n_obs=600), told=True)
    found = train(both, model_kwargs=None, n_genes=100)
    shares = found.fitted_.shares
    assert not any(name.startswith("CD") for name in shares)
    assert sum(shares.values()) == pytest.approx(1, abs=1e-6)


def test_shares_are_saved(model, tmp_path):
    model.save(tmp_path / "model")
    loaded = pgs.model.Polygene.load(tmp_path / "model", adata=False)
    assert loaded.fitted_.shares == pytest.approx(model.fitted_.shares)
    assert sum(model.fitted_.shares.values()) == pytest.approx(1, abs=1e-5)


def test_files_each_have_their_scale(new, tmp_path):
    """Samples that were normalised to their own medians are read alike."""
    paths = []
    for i in range(2):
        paths.append(tmp_path / f"{i}.h5ad")
        logged(cells(n_obs=600)[i * 300 : (i + 1) * 300].copy(), None).write_h5ad(paths[-1])
    of_files, in_memory = train(paths), train(cells(n_obs=600))
    assert of_files.fitted_.shares == pytest.approx(in_memory.fitted_.shares, abs=1e-6)
    assert set(of_files.genes) == set(in_memory.genes)


# where expression stands


@pytest.mark.parametrize("where", ["layer", "raw"])
def test_counts_in_x_for_a_model_of_a_layer(where):
    adata = cells()
    adata.layers["counts"], adata.raw = adata.X.copy(), adata.copy()
    adata.X = -adata.X
    model = train(adata, layer="counts" if where == "layer" else None, use_raw=where == "raw")
    q = cells(seed=1)
    found = proba(model, q)
    q.layers["counts"], q.raw = q.X.copy(), q.copy()
    np.testing.assert_array_equal(found, proba(model, q))


def test_another_layer_is_said():
    adata = cells()
    adata.layers["spliced"] = adata.X.copy()
    model = train(adata, layer="spliced")
    proba(
        model,
        cells(seed=1),
        r"layers\['spliced'\], which these data do not have, so adata\.X is used instead, read as counts",
    )
    q = cells(seed=1)
    q.X = None
    with pytest.raises(
        ValueError, match=r"the model uses adata\.layers\['spliced'\], but neither it nor adata\.X exists"
    ):
        model.predict_phenotype(q)


def test_expression_that_is_nowhere_is_said():
    model, q = train(cells()), cells(seed=1)
    q.X = None
    with pytest.raises(ValueError, match=r"the model uses adata\.X, but it does not exist\. The layers are \[\]"):
        model.predict_phenotype(q)


def test_detect_scale_of_nothing_but_ones():
    """Cells in which each gene has one count."""
    x = sp.csr_matrix((np.random.default_rng(0).random((50, 40)) < 0.3).astype(np.float32))
    assert detect_scale(x).kind == "counts"
    totals = np.asarray(x.sum(1)).ravel()
    x.data = np.log1p(x.data * (1e4 / np.repeat(totals, np.diff(x.indptr)))).astype(np.float32)
    assert detect_scale(x).is_ours


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x: (x > 0).astype(np.float32), "has only the values 0 and 1, as in binarised data"),
        (lambda x: x + 1, "has hardly any zeros, as in imputed or denoised data"),
        (lambda x: x @ x.T @ x / 1e4 + 0.1, "has hardly any zeros, as in imputed or denoised data"),
    ],
    ids=["binary", "pseudocount", "smoothed"],
)
def test_values_unlike_those_of_cells_are_said(change, words):
    wide = cells(seed=1, n_obs=200, n_vars=300)
    assert not unlike_cells(wide.X)
    wide.X = change(wide.X.toarray())
    with pytest.warns(UserWarning, match=rf"adata\.X {words}.* Pass measured counts"):
        assert Expression.of(wide).scale.kind == "counts"
    assert not unlike_cells(sp.csr_matrix(wide.X[:2, :30]))
