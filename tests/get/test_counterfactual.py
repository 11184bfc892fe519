import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy.stats import permutation_test

import polygene_scverse as pgs
from polygene_scverse.get._counterfactual import sign_flips


def result(n_donors=8, effect=1.0, spread=0.3, seed=0):
    """40 genes, of which the first ten shift, in 10 cells of each donor and type."""
    rng = np.random.default_rng(seed)
    donor, kind = np.repeat(np.arange(n_donors), 20), np.tile(["a", "b"], 10 * n_donors)
    shift = np.where(np.arange(40) < 10, effect, 0.0) + rng.normal(0, spread, (n_donors, 40))[donor]
    unchanged = rng.random((len(donor), 40))
    obs = pd.DataFrame({"donor": [f"d{d}" for d in donor], "kind": kind}, index=[f"c{i}" for i in range(len(donor))])
    uns = {"polygene": {"counterfactual": {"phenotypes": {"stim": "yes"}}}}
    return AnnData(unchanged + shift, obs=obs, layers={"unchanged": unchanged}, uns=uns)


def test_shifts_of_each_level():
    adata = result()
    table = pgs.get.counterfactual(adata, groupby="kind")
    assert list(table) == ["gene", "level", "shift", "n_cells", "n_groups", "p_value", "fdr"]
    assert table["level"].value_counts().to_dict() == {"a": 40, "b": 40}
    difference = adata.to_df() - adata.to_df("unchanged")
    expected = difference[(adata.obs["kind"] == "b").to_numpy()].mean()
    found = table[table["level"] == "b"].set_index("gene")["shift"]
    np.testing.assert_allclose(found[expected.index], expected)
    assert found.abs().is_monotonic_decreasing
    assert table["p_value"].isna().all()
    assert set(pgs.get.counterfactual(adata)["level"]) == {"all"}


@pytest.mark.parametrize("n_donors", [8, 20])
def test_true_shifts_are_found_and_others_are_not(n_donors):
    table = pgs.get.counterfactual(result(n_donors), group_key="donor", n_permutations=2000)
    found = set(table.query("fdr < 0.05")["gene"])
    assert found >= {str(i) for i in range(10)}
    assert len(found) <= 12
    assert (table["n_groups"] == n_donors).all()


def test_the_null_is_the_paired_permutation_test_of_scipy():
    shifts = np.random.default_rng(0).normal(0.3, 1.0, (7, 5))
    expected = permutation_test(
        (shifts,), lambda x, axis: np.abs(x.mean(axis)), permutation_type="samples", alternative="greater", axis=0,
        n_resamples=np.inf,
    ).pvalue  # fmt: skip
    np.testing.assert_allclose(sign_flips(shifts, 0, 0), expected)


def test_the_false_discovery_rate_holds_where_nothing_shifts():
    shares = []
    for seed in range(40):
        table = pgs.get.counterfactual(result(effect=0.0, seed=seed), group_key="donor")
        shares.append((table["fdr"] < 0.1).any())
    assert np.mean(shares) <= 0.2


def test_too_few_groups():
    with pytest.warns(UserWarning, match=r"fewer than 6 groups of 'donor' \(of 5 in all\)"):
        table = pgs.get.counterfactual(result(5), group_key="donor")
    assert table[["p_value", "fdr"]].isna().all(axis=None)


def test_groups_that_are_told_alike():
    with pytest.warns(UserWarning, match="the same shift in every group"):
        table = pgs.get.counterfactual(result(spread=0.0), group_key="donor")
    assert table["p_value"].isna().all()


def test_what_is_not_there():
    adata = result()
    with pytest.raises(KeyError, match="'age' is not among the columns"):
        pgs.get.counterfactual(adata, groupby="age")
    adata.obs["age"] = np.nan
    with pytest.raises(ValueError, match="are missing"):
        pgs.get.counterfactual(adata, groupby="age")
    with pytest.raises(KeyError, match="it holds no expected expression"):
        pgs.get.counterfactual(AnnData(np.ones((2, 2))))
