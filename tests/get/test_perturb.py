"""Shifts beside random ones: scores by hand, ranks by scipy, and what a null cannot tell."""

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy.stats import false_discovery_control

import polygene_scverse as pgs
from polygene_scverse.get._perturb import matched_z


def result(n=12, n_null=100, seed=0, effect=0.0, n_responses=5):
    """Perturbations that are random ones, but for the first three."""
    rng = np.random.default_rng(seed)
    expression = rng.uniform(0, 2, n + n_null)
    x = rng.normal(0, 0.1 + expression[:, None], (n + n_null, n_responses))
    x[:3] += effect
    shifts = rng.normal(0, 0.1 + expression[:, None], (n + n_null, 3))
    obs = pd.DataFrame(
        {"null": np.arange(n + n_null) >= n, "n_genes": 1, "n_cells": 7, "expression": expression,
         "embedding": np.exp(rng.normal(expression, 0.3))},
        index=[f"g{i}" for i in range(n + n_null)],
    )  # fmt: skip
    note = {"phenotypes": np.array(["sex", "sex", "age"]), "categories": np.array(["f", "m", "old"])}
    return AnnData(x, obs=obs, obsm={"phenotype_shift": shifts}, uns={"polygene": {"perturb": note}})


def test_z_by_hand():
    values = np.array([[1.0], [2.0], [4.0], [10.0], [0.0]])
    null = np.array([True, True, True, True, False])
    found = matched_z(values, np.array([0.0, 1.0, 2.0, 9.0, 1.1]), null, n_nearest=3)
    np.testing.assert_allclose(found[4], (0 - 7 / 3) / np.std([1, 2, 4], ddof=1))
    np.testing.assert_allclose(found[0], (1 - 16 / 3) / np.std([2, 4, 10], ddof=1))


def test_planted_ones_are_found_and_random_ones_are_not():
    table = pgs.get.perturb(result(effect=15.0), "expression")
    assert set(table["perturbation"][:3]) == {"g0", "g1", "g2"}
    assert (table["fdr"][:3] < 0.05).all()
    assert (table["fdr"][3:] > 0.05).all()
    np.testing.assert_allclose(table["fdr"], false_discovery_control(table["p_value"]))


@pytest.mark.parametrize("outcome", ["sex", "embedding", "expression", "genes"])
def test_p_values_of_random_ones_are_uniform(outcome):
    p = np.concatenate([pgs.get.perturb(result(60, 100, seed), outcome)["p_value"] for seed in range(30)])
    for level in (0.05, 0.2, 0.5):
        assert abs((p <= level).mean() - level) < 0.05


def test_tables():
    adata = result()
    by_sex, genes = pgs.get.perturb(adata, "sex"), pgs.get.perturb(adata, "genes")
    assert set(by_sex["level"]) == {"f", "m"}
    assert len(by_sex) == 24
    row = by_sex.query("perturbation == 'g4' and level == 'm'").iloc[0]
    assert row["shift"] == adata.obsm["phenotype_shift"][4, 1]
    assert len(genes) == 12 * 5
    sizes = pgs.get.perturb(adata, "expression").set_index("perturbation")
    assert sizes.loc["g4", "shift"] == pytest.approx(np.sqrt((adata.X[4] ** 2).mean()))
    usual = adata.X[12:].mean(0)
    left = adata.X[4] - (adata.X[4] @ usual) / (usual @ usual) * usual
    assert sizes.loc["g4", "specific"] == pytest.approx((left**2).sum() / (adata.X[4] ** 2).sum())


def test_too_few_random_ones():
    with pytest.warns(UserWarning, match=r"fewer than 20 random perturbations of \[1\] genes"):
        table = pgs.get.perturb(result(n_null=19), "embedding")
    assert table[["z", "p_value", "fdr"]].isna().all(axis=None)
    assert table["shift"].notna().all()
    assert (np.diff(table["shift"]) <= 0).all()


def test_what_is_no_result_is_refused():
    with pytest.raises(KeyError, match=r"Pass the result of pgs\.tl\.perturb"):
        pgs.get.perturb(AnnData(np.ones((2, 2))))
    with pytest.raises(ValueError, match="`outcome`: found 'nope'"):
        pgs.get.perturb(result(), "nope")
