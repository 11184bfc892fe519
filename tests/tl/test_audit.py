import warnings

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from mudata import MuData

import polygene_scverse as pgs


@pytest.fixture
def samples(cells):
    """Six donors with a control and a treated sample each; treatment raises ten genes much."""
    rng = np.random.default_rng(0)
    treated = rng.integers(0, 2, cells.n_obs)
    counts = cells.X.toarray()
    counts[treated == 1, 40:50] += rng.poisson(6, (treated.sum(), 10))
    cells.X = type(cells.X)(counts)
    cells.obs["condition"] = pd.Categorical(np.array(["control", "treated"])[treated])
    cells.obs["sample"] = cells.obs["donor"].astype(str) + "_" + cells.obs["condition"].astype(str)
    return cells


@pytest.fixture
def swapped(samples):
    """The samples of donor 3 are swapped."""
    other = {"donor3_control": "treated", "donor3_treated": "control"}
    recorded = samples.obs["condition"].astype(str)
    samples.obs["condition"] = samples.obs["sample"].map(other).fillna(recorded).astype("category")
    return samples


ARGUMENTS = {"sample_key": "sample", "group_key": "donor", "n_folds": 3, "max_epochs": 6}


def kwargs_of(small):
    return {**{k: v for k, v in small.items() if k != "max_epochs"}, "plan_kwargs": {"lr": 0.01}, "batch_size": 32}


def test_swapped_samples_are_found(swapped, small, tmp_path, capsys):
    before = swapped.obs.copy()
    table = pgs.tl.audit(swapped, phenotypes=["condition", "cell_type"], train_kwargs=kwargs_of(small), **ARGUMENTS)
    assert list(table["sample"][:2].sort_values()) == ["donor3_control", "donor3_treated"]
    assert table["flagged"].tolist() == [True] * 2 + [False] * 10
    assert table["reliable"].all()
    assert (table["phenotype"] == "condition").all()  # cell types vary within samples
    assert table["score"].is_monotonic_increasing
    rows = table.set_index("sample")
    assert rows.loc["donor3_control", ["recorded", "suggested"]].tolist() == ["treated", "control"]
    agree = rows[rows["score"] > 0]
    assert len(agree) > 6
    assert (agree["recorded"] == agree["suggested"]).all()
    assert (rows["n_cells"] == swapped.obs["sample"].value_counts()[rows.index]).all()
    assert (rows["share"][:2] > 0.5).all()
    assert "donor3_control is recorded as 'treated', but its expression suggests 'control'" in capsys.readouterr().out
    assert set(swapped.obs) - set(before) == {"polygene_audit_condition", "polygene_audit_cell_type"}
    assert swapped.obs[before.columns].equals(before)
    wrong = swapped.obs["donor"] == "donor3"
    probability = swapped.obs["polygene_audit_condition"]
    assert probability[wrong].mean() < 0.4 < 0.6 < probability[~wrong].mean()
    assert swapped.obs["polygene_audit_cell_type"].isna().equals(swapped.obs["cell_type"].isna())
    swapped.write_h5ad(tmp_path / "cells.h5ad")
    pd.testing.assert_frame_equal(pgs.get.audit(ad.read_h5ad(tmp_path / "cells.h5ad")), table)


def test_cells_are_judged_by_a_model_that_has_not_seen_their_group(samples, small):
    """One donor has cells that no model can know: a model that had seen them would give them their label."""
    table = pgs.tl.audit(samples, phenotypes="condition", train_kwargs=kwargs_of(small), **ARGUMENTS)
    assert not table["flagged"].any()
    obs = samples.obs.copy()
    samples.obs.loc[samples.obs["donor"] == "donor2", "condition"] = "control"
    pgs.tl.audit(samples, phenotypes="condition", train_kwargs=kwargs_of(small), **ARGUMENTS)
    lied = (samples.obs["donor"] == "donor2") & (obs["condition"] == "treated")
    assert samples.obs.loc[lied, "polygene_audit_condition"].max() < 0.5


def test_a_model_from_elsewhere(trained):
    cells, model = trained
    query = cells[:60].copy()
    query.obs["cell_type"] = query.obs["cell_type"].astype(object)
    query.obs.loc[query.obs_names[:2], "cell_type"] = "mast cell"
    table = pgs.tl.audit(query, phenotypes="cell_type", model=model)
    assert table.empty
    proba = model.predict_phenotype(cells)["cell_type"]
    found = query.obs["polygene_audit_cell_type"]
    known = query.obs["cell_type"].isin(proba.columns)
    assert found.notna().equals(known)
    expected = [proba.loc[cell, label] for cell, label in query.obs.loc[known, "cell_type"].items()]
    np.testing.assert_allclose(found[known], expected, rtol=1e-5)
    (sentence,) = query.uns["polygene"]["audit"]["notes"]
    assert sentence.startswith("`sample_key`: none was passed, so only single cells are assessed")


def test_a_model_from_elsewhere_relies_on_a_swap_of_all_samples(trained, capsys):
    cells, model = trained
    female = model.predict_phenotype(cells)["sex"]["female"] > np.exp(model.log_shares["sex"][0])
    cells.obs["sample"] = np.where(female, "s1", "s2")
    cells.obs["sex"] = np.where(female, "male", "female")
    table = pgs.tl.audit(cells, phenotypes="sex", sample_key="sample", model=model)
    assert (table["share"] > 0.99).all()
    assert table["flagged"].tolist() == table["reliable"].tolist() == [True, True]
    assert "their labels are swapped or named differently" in capsys.readouterr().out


def test_scores_are_mean_log_likelihood_ratios(trained):
    """By hand: probability over share of the training cells, recorded against the other sex."""
    cells, model = trained
    cells.obs["sample"] = np.where(cells.obs["sex"] == "female", "f", "m")
    cells.obs.loc[cells.obs["sex"] == "unknown", "sample"] = "f"
    table = pgs.tl.audit(cells, phenotypes="sex", sample_key="sample", model=model).set_index("sample")
    proba = model.predict_phenotype()["sex"]
    shares = np.exp(model.log_shares["sex"])
    ratios = np.log(proba["female"] / shares[0]) - np.log(proba["male"] / shares[1])
    female, male = ratios[cells.obs["sex"] == "female"], ratios[cells.obs["sex"] == "male"]
    assert table.loc["f", "score"] == pytest.approx(female.mean(), rel=1e-4)
    assert table.loc["m", "score"] == pytest.approx(-male.mean(), rel=1e-4)
    assert table.loc["f", "share"] == pytest.approx((female < 0).mean())
    assert table.loc["f", "n_cells"] == len(female)


def test_what_is_missing_is_said_before_training(samples, small, monkeypatch, capsys):
    """Without samples a message names the columns that could be passed, and samples without a constant one are an error."""
    said = []
    monkeypatch.setattr(
        "polygene_scverse.tl._audit.out_of_fold_evidence", lambda *_: said.append(capsys.readouterr().out)
    )
    with pytest.raises(TypeError):  # nothing was trained
        pgs.tl.audit(samples, phenotypes="condition")
    (message,) = said
    assert message.startswith("`sample_key`: none was passed, so only single cells are assessed")
    assert "Phenotypes that are constant within samples: 'condition' within ['sample']. Pass such a column." in message
    wrong = (
        r"`sample_key`: none of the phenotypes \['condition'\] is constant within 'donor', so no sample can be assessed. "
        r"Columns within which they are: 'condition' within \['sample'\]. Pass another column .* group_key='donor'"
    )
    with pytest.raises(ValueError, match=wrong):
        pgs.tl.audit(samples, phenotypes="condition", sample_key="donor")
    assert len(said) == 1


def test_labels_of_which_the_model_knows_none(trained):
    cells, model = trained
    cells.obs["sex"] = np.resize(["X0", "XXY"], cells.n_obs)
    with pytest.raises(
        ValueError, match=r"`phenotypes`: no cell has a category of \['sex'\] that the model knows, .* 'male'"
    ):
        pgs.tl.audit(cells, phenotypes="sex", model=model)


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"sample_key": "batch"}, KeyError, r"`sample_key`: \['batch'\]"),
        ({"group_key": "batch"}, KeyError, r"`group_key`: \['batch'\]"),
        ({"group_key": "donor", "n_folds": 9}, ValueError, "`n_folds`: found 9 folds for 6 groups of 'donor'"),
    ],
    ids=["sample", "group", "folds"],
)
def test_bad_arguments(cells, arguments, error, match):
    with pytest.raises(error, match=match):
        pgs.tl.audit(cells, phenotypes="sex", **arguments)


def test_a_phenotype_that_the_model_does_not_have(trained):
    cells, model = trained
    cells.obs["disease"] = np.resize(["flu", "healthy"], cells.n_obs)
    with pytest.raises(ValueError, match="`phenotypes`: found 'disease', but it must be one of"):
        pgs.tl.audit(cells, phenotypes="disease", model=model)


@pytest.mark.parametrize(
    "argument",
    [
        {"group_key": "donor"},
        {"n_folds": 3},
        {"max_epochs": 1},
        {"layer": "counts"},
        {"use_raw": True},
        {"train_kwargs": {"n_genes": 20}},
    ],
)
def test_refused_beside_a_model(argument, trained):
    cells, model = trained
    (name,) = argument
    with pytest.raises(ValueError, match=rf"`model`: passed together with \['{name}'\], which have no effect"):
        pgs.tl.audit(cells, phenotypes="sex", model=model, **argument)


def test_a_modality_whose_genes_are_named_by_a_column(cells, small):
    """Models of folds learn and find the same genes as under their own names, from a layer as from X."""
    cells.var["symbol"] = cells.var_names
    other = cells.copy()
    other.var_names = [f"id{i}" for i in range(other.n_vars)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        data = MuData({"gex": other})
    data["gex"].layers["counts"] = other.X.copy()
    data["gex"].X = -other.X
    arguments = {"phenotypes": "sex", "n_folds": 2, "train_kwargs": small | {"max_epochs": 1}}
    pgs.tl.audit(cells, **arguments)
    pgs.tl.audit(data, mod="gex", layer="counts", gene_symbols="symbol", **arguments)
    found, expected = (part.obs["polygene_audit_sex"] for part in (data["gex"], cells))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert "audit" in data["gex"].uns["polygene"]
