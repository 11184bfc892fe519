import warnings

import numpy as np
import pytest

import polygene_scverse as pgs


def test_genes_that_are_there_get_a_layer(trained):
    cells, _ = trained
    before = cells.copy()
    assert pgs.tl.impute(cells) is None
    x = cells.layers["imputed"]
    assert x.shape == cells.shape
    assert np.isfinite(x).all()
    assert (x >= 0).all()
    np.testing.assert_array_equal(cells.X.toarray(), before.X.toarray())
    assert cells.obs.equals(before.obs)
    note = {"layer": "imputed", "by": "factors", "keep": 1.0, "log": True, "seed": 0}
    assert cells.uns["polygene"]["impute"] == note


def test_measured_genes_follow_from_the_factors_of_the_training_cells(trained):
    cells, model = trained
    pgs.tl.impute(cells, genes=["gene40", "gene3"])
    asked = np.array([model.genes.index(gene) for gene in ("gene40", "gene3")])
    x = model.measured_expression(cells)
    expected = model.fitted_.factors.expect(x, asked, np.ones(60, dtype=bool), log=True)
    np.testing.assert_allclose(cells[:, ["gene40", "gene3"]].layers["imputed"], expected, rtol=1e-5)


@pytest.mark.parametrize("arguments", [{}, {"keep": 0.75}], ids=["factors", "network"])
def test_means_of_counts_are_larger_than_logarithms_suggest(trained, arguments):
    cells, _ = trained
    pgs.tl.impute(cells, **arguments)
    pgs.tl.impute(cells, log=False, layer_added="counts", **arguments)
    suggested = np.expm1(cells.layers["imputed"])
    assert (cells.layers["counts"].mean(0) >= suggested.mean(0)).mean() > 0.9
    x = cells.X.toarray()
    per_gene = (1e4 * x / x.sum(1, keepdims=True)).mean(0)
    assert np.corrcoef(cells.layers["counts"].mean(0), per_gene)[0, 1] > 0.95


def test_the_network_is_asked_if_there_are_no_factors(trained, caplog):
    cells, model = trained
    pgs.tl.impute(cells, keep=0.75)
    asked = cells.layers["imputed"]
    model.fitted_.factors = None
    with caplog.at_level("INFO"):
        pgs.tl.impute(cells)
    assert "300 cells x 60 genes, 0.00 GB" in caplog.text
    np.testing.assert_array_equal(cells.layers["imputed"], asked)
    assert cells.uns["polygene"]["impute"]["by"] == "network"


def test_some_genes_leave_the_others_blank(trained):
    cells, _ = trained
    pgs.tl.impute(cells, genes=["gene3", "gene40"], layer_added="some")
    filled = np.isfinite(cells.layers["some"]).all(0)
    assert list(cells.var_names[filled]) == ["gene3", "gene40"]
    assert np.isnan(cells.layers["some"][:, ~filled]).all()


def test_genes_that_are_not_there_come_back(trained):
    """A gene that is unmeasured is answered as one that is asked for."""
    cells, model = trained
    x = cells.X.toarray().astype(float)
    logged = cells.copy()
    logged.X = np.log1p(1e4 * x / x.sum(1, keepdims=True)).astype(np.float32)
    (hidden,) = model.expected_expression(logged, genes=["gene7", "gene31"], keep=1.0)
    new = logged[:, ~logged.var_names.isin(["gene7", "gene31"])].copy()
    model.fitted_.shares.clear()  # so that totals are those that were logged
    with pytest.warns(UserWarning, match="2 of the model's 60 genes are unmeasured"):
        found = pgs.tl.impute(new, model=model, genes=["gene31", "gene7"])
    assert list(found.var_names) == ["gene31", "gene7"]
    np.testing.assert_allclose(found.X[:, ::-1], hidden, atol=0.05)
    assert "imputed" not in new.layers
    assert found.obs.equals(new.obs)


def test_warnings_are_given_once(trained):
    cells, model = trained
    panel = cells[:, :30].copy()
    with warnings.catch_warnings(record=True) as given:
        warnings.simplefilter("always")
        pgs.tl.impute(panel, model=model)
    texts = [str(warning.message) for warning in given]
    assert len(set(texts)) == len(texts) == 2


def test_what_phenotypes_tell_is_told_if_they_are_given(trained):
    cells, _ = trained
    male = (cells.obs["sex"] == "male").to_numpy()
    gaps = {}
    for given in (None, "sex"):
        pgs.tl.impute(cells, given=given, keep=0.0)
        x = cells.layers["imputed"][:, cells.var_names.get_indexer(["gene30", "gene33"])]
        gaps[given] = x[male].mean() - x[~male].mean()
    assert gaps["sex"] > 0.3
    assert gaps[None] == pytest.approx(0.0, abs=1e-5)


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"genes": ["nope"]}, r"\['nope'\] are not among the 60 genes of the model"),
        ({"genes": []}, "`genes`"),
        ({"keep": -0.1}, "`keep`"),
        ({"given": "age"}, "'age'"),
    ],
)
def test_bad_input_leaves_the_data_alone(trained, kwargs, words):
    cells, _ = trained
    with pytest.raises(ValueError, match=words):
        pgs.tl.impute(cells, **kwargs)
    assert not len(cells.layers)
    assert "impute" not in cells.uns["polygene"]


def test_notes_of_the_user_are_not_lost(trained):
    cells, model = trained
    cells.uns["polygene"]["impute"] = "my own"
    with pytest.raises(ValueError, match="was not written by the function"):
        pgs.tl.impute(cells, model=model)
    assert not len(cells.layers)
    with pytest.raises(ValueError, match="`key_added`: found 'impute'"):
        pgs.tl.score_tokens(cells, model=model, key_added="impute")
