import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from anndata import AnnData, concat

import polygene_scverse as pgs

N_SHIFTED = 20


def result(n_donors=8, effect=1.0, seed=0, *, design="paired", n_cells=10, n_genes=200):
    """The first genes differ in cells that are recorded as "yes"; donors (and their samples) differ in all genes.

    In the paired design each donor has cells of both labels, otherwise half of the donors are "yes".
    """
    rng = np.random.default_rng(seed)
    donor = np.repeat(np.arange(n_donors), 2 * n_cells)
    second = np.tile(np.arange(2 * n_cells) < n_cells, n_donors)
    yes = second if design == "paired" else np.isin(donor, rng.permutation(n_donors)[: n_donors // 2])
    hidden = rng.normal(0, 1, (2, n_donors, 3)) @ rng.normal(0, 0.3, (3, n_genes))  # genes go together
    batch = hidden[0, donor] + (hidden[1, donor] if design == "paired" else 0) * second[:, None]
    observed = batch + rng.normal(0, 0.5, (len(donor), n_genes))
    observed[:, :N_SHIFTED] += effect * yes[:, None]
    unchanged = rng.random((len(donor), n_genes))
    shift = np.where(np.arange(n_genes) < N_SHIFTED, 0.9 * effect, 0.01) * ~yes[:, None]
    obs = pd.DataFrame({"donor": [f"d{d}" for d in donor], "stim": np.where(yes, "yes", "no")})
    obs["kind"] = np.tile(["a", "b"], n_donors * n_cells)
    obs.index = [f"c{i}" for i in range(len(donor))]
    note = {"phenotypes": {"stim": "yes"}, "columns": {"stim": "stim"}, "keep": 0.0, "seed": 0}
    return AnnData(
        unchanged + shift,
        obs=obs,
        var=pd.DataFrame({"measured": True}, index=[f"g{i}" for i in range(n_genes)]),
        layers={"unchanged": unchanged, "observed": sp.csr_matrix(observed)},
        uns={"polygene": {"counterfactual": note}},
    )


def test_shifts_and_observed_differences_of_each_level():
    adata = result()
    table = pgs.get.counterfactual(adata, groupby="kind")
    assert list(table) == ["gene", "level", "shift", "observed", "n_cells", "n_groups", "p_value", "fdr"]
    assert table["level"].value_counts().to_dict() == {"a": 200, "b": 200}
    assert (table["n_cells"] == 40).all()
    b, yes = (adata.obs["kind"] == "b").to_numpy(), (adata.obs["stim"] == "yes").to_numpy()
    expected = (adata.to_df() - adata.to_df("unchanged"))[b & ~yes].mean()
    found = table[table["level"] == "b"].set_index("gene")
    np.testing.assert_allclose(found["shift"][expected.index], expected)
    assert found["shift"].abs().is_monotonic_decreasing
    x = adata.to_df("observed")
    np.testing.assert_allclose(found["observed"][x.columns], x[b & yes].mean() - x[b & ~yes].mean())
    assert table[["p_value", "fdr"]].isna().all(axis=None)
    assert set(pgs.get.counterfactual(adata)["level"]) == {"all"}


def test_each_group_counts_once():
    adata = result()
    few = (adata.obs["donor"] == "d0").to_numpy() & (np.arange(adata.n_obs) % 3 > 0)
    adata = adata[~few].copy()
    found = pgs.get.counterfactual(adata, group_key="donor").set_index("gene")["observed"]
    means = adata.to_df("observed").groupby([adata.obs["donor"], adata.obs["stim"]]).mean().unstack("stim")
    expected = (means.xs("yes", axis=1, level=1) - means.xs("no", axis=1, level=1)).mean()
    np.testing.assert_allclose(found[expected.index], expected)


@pytest.mark.parametrize(("design", "n_donors"), [("paired", 8), ("paired", 20), ("between", 12)])
def test_true_shifts_are_found_and_others_are_not(design, n_donors):
    right, wrong = [], []
    for seed in range(30):
        adata = result(n_donors, effect=1.5, seed=seed, design=design, n_cells=5)
        table = pgs.get.counterfactual(adata, group_key="donor", n_permutations=500)
        assert (table["n_groups"] == n_donors).all()
        found = table.query("fdr < 0.1")["gene"].str[1:].astype(int)
        right.append((found < N_SHIFTED).sum() / N_SHIFTED)
        wrong.append((found >= N_SHIFTED).mean() if len(found) else 0.0)
    assert np.mean(right) > 0.8
    assert np.mean(wrong) <= 0.1


@pytest.mark.parametrize(("design", "n_donors"), [("paired", 7), ("paired", 12), ("between", 10), ("between", 20)])
def test_the_false_discovery_rate_holds_where_labels_of_groups_are_permuted(design, n_donors):
    """Genes of a donor go together: a null over cells finds hundreds of them."""
    shares = []
    for seed in range(100):
        adata = result(n_donors, effect=0.0, seed=seed, design=design, n_cells=3, n_genes=100)
        table = pgs.get.counterfactual(adata, group_key="donor", n_permutations=200)
        shares.append((table["fdr"] < 0.1).any())
    assert np.mean(shares) <= 0.1 + 2 * np.sqrt(0.1 * 0.9 / 100)


def test_a_null_over_cells_would_not_hold():
    adata = result(8, effect=0.0, design="between")
    adata.obs["cell"] = np.arange(adata.n_obs).astype(str)
    table = pgs.get.counterfactual(adata, group_key="donor")
    assert not (table["fdr"] < 0.1).any()
    from scipy.stats import false_discovery_control, ttest_ind

    x, yes = adata.layers["observed"].toarray(), (adata.obs["stim"] == "yes").to_numpy()
    assert (false_discovery_control(ttest_ind(x[yes], x[~yes]).pvalue) < 0.1).mean() > 0.3


@pytest.mark.parametrize(("design", "n"), [("paired", 5), ("between", 6)])
def test_too_few_groups(design, n):
    with pytest.warns(UserWarning, match=rf"too few groups for a test in \['all'\]: of the {n} groups") as said:
        table = pgs.get.counterfactual(result(n, design=design), group_key="donor")
    assert table[["p_value", "fdr"]].isna().all(axis=None)
    assert table["observed"].notna().all()
    assert said[0].filename == __file__


def test_groups_with_too_few_cells_do_not_count():
    adata = result(8)
    adata.obs.loc[(adata.obs["donor"].isin(["d0", "d1"])) & (adata.obs["stim"] == "yes"), "stim"] = np.nan
    table = pgs.get.counterfactual(adata, group_key="donor")
    assert (table["n_groups"] == 6).all()
    assert table["fdr"].notna().all()
    with pytest.warns(UserWarning, match="at least 3 cells"):
        table = pgs.get.counterfactual(result(8, n_cells=2), group_key="donor")
    assert table["fdr"].isna().all()


def test_without_recorded_labels_there_is_no_null():
    adata = result()
    del adata.obs["stim"]
    with pytest.warns(UserWarning, match="too few groups for a test"):
        table = pgs.get.counterfactual(adata, group_key="donor")
    assert table[["observed", "p_value", "fdr"]].isna().all(axis=None)
    assert table["shift"].notna().all()


def test_a_requested_category_that_is_called_like_a_missing_value():
    adata, renamed = result(), result()
    renamed.obs["stim"] = renamed.obs["stim"].replace("yes", "unknown")
    renamed.uns["polygene"]["counterfactual"]["phenotypes"] = {"stim": "unknown"}
    expected = pgs.get.counterfactual(adata, group_key="donor")
    pd.testing.assert_frame_equal(pgs.get.counterfactual(renamed, group_key="donor"), expected)


def test_unmeasured_genes_and_genes_that_are_never_expressed():
    adata = result()
    adata.var.loc["g3", "measured"] = False
    x = adata.layers["observed"].toarray()
    x[:, [3, 4]] = 0.0
    adata.layers["observed"] = sp.csr_matrix(x)
    table = pgs.get.counterfactual(adata, group_key="donor").set_index("gene")
    assert table.loc["g3", ["observed", "p_value", "fdr"]].isna().all()
    assert list(table.loc["g4", ["observed", "p_value", "fdr"]]) == [0.0, 1.0, 1.0]
    assert table.loc["g2", "fdr"] < 0.05


@pytest.mark.parametrize("argument", ["groupby", "group_key"])
def test_a_column_that_is_recorded_in_unchanged_cells_only(argument):
    adata = result()
    adata.obs["severity"] = np.where(adata.obs["stim"] == "yes", "mild", None)
    with pytest.raises(
        ValueError, match=rf"`{argument}`: only cells already recorded as .* in adata.obs\['severity'\]"
    ):
        pgs.get.counterfactual(adata, **{argument: "severity"})


def test_results_of_other_phenotypes_are_not_joined():
    first, second = result(), result()
    second.uns["polygene"]["counterfactual"]["phenotypes"] = {"stim": "no"}
    second.obs_names = "x" + second.obs_names
    joined = concat([first, second], merge="same", uns_merge="same")
    with pytest.raises(KeyError, match="all parts need the same phenotypes"):
        pgs.get.counterfactual(joined)


def test_what_is_not_there():
    adata = result()
    with pytest.raises(KeyError, match=r"'age' is not a column of adata\.obs"):
        pgs.get.counterfactual(adata, groupby="age")
    with pytest.raises(KeyError, match=r"`group_key`: 'patient' is not a column of adata\.obs"):
        pgs.get.counterfactual(adata, group_key="patient")
    adata.obs["age"] = np.nan
    with pytest.raises(ValueError, match="are missing"):
        pgs.get.counterfactual(adata, groupby="age")
    with pytest.raises(ValueError, match="`n_permutations`: found 10, but at least 100"):
        pgs.get.counterfactual(adata, n_permutations=10)
    with pytest.raises(ValueError, match=r"every cell is already recorded as {'stim': 'yes'}"):
        pgs.get.counterfactual(adata[adata.obs["stim"] == "yes"])
    with pytest.raises(KeyError, match="it has no predicted expression"):
        pgs.get.counterfactual(AnnData(np.ones((2, 2))))
