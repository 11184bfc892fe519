import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from polygene_scverse import datasets
from polygene_scverse.datasets import _simulate


def test_form():
    adata = datasets.simulate(101, 41, phenotypes={"cell_type": 4, "age": 3, "sex": 2}, n_groups=7)
    assert adata.shape == (101, 41)
    assert sp.isspmatrix_csr(adata.X)
    assert adata.X.dtype == np.float32
    assert (adata.X.data == np.rint(adata.X.data)).all()
    assert adata.X.data.min() >= 1
    assert list(adata.obs) == ["cell_type", "age", "sex", "donor"]
    for name, size in {"cell_type": 4, "age": 3, "sex": 2, "donor": 7}.items():
        n_cells = adata.obs[name].value_counts()
        assert len(n_cells) == size
        assert n_cells.max() - n_cells.min() <= 1


def test_same_seed_same_cells():
    first, again, other = (datasets.simulate(50, 30, seed=seed, missing=0.2) for seed in (3, 3, 4))
    assert (first.X != again.X).nnz == 0
    pd.testing.assert_frame_equal(first.obs, again.obs)
    pd.testing.assert_frame_equal(first.var, again.var)
    assert (first.X != other.X).nnz > 0
    assert not first.obs.equals(other.obs)


def test_global_random_state_is_left_alone():
    before = np.random.get_state()[1].tolist()  # noqa: NPY002
    datasets.simulate(20, 20)
    assert np.random.get_state()[1].tolist() == before  # noqa: NPY002


@pytest.mark.parametrize("block", [4096, 77], ids=["one block", "many blocks"])
def test_markers_have_their_fold_change(monkeypatch, block):
    monkeypatch.setattr(_simulate, "CELLS_PER_BLOCK", block)
    adata = datasets.simulate(3000, 100, effect=1.2, group_effect=0.0, mean_count=4.0)
    for phenotype in ("cell_type", "sex"):
        for category in adata.obs[phenotype].cat.categories:
            inside = (adata.obs[phenotype] == category).to_numpy()
            ratio = np.asarray(adata.X[inside].mean(0) / adata.X[~inside].mean(0)).ravel()
            marker = (adata.var["category"] == category).to_numpy()
            assert marker.sum() == 10
            assert (adata.var["phenotype"][marker] == phenotype).all()
            assert np.median(ratio[marker]) == pytest.approx(np.exp(1.2), rel=0.05)
            unrelated = (adata.var["phenotype"] != phenotype).to_numpy()
            assert np.abs(ratio[unrelated] - 1).max() < 0.3


@pytest.mark.parametrize("dispersion", [0.0, 0.5, 2.0], ids=["Poisson", "moderate", "high"])
def test_counts_are_negative_binomial(dispersion):
    adata = datasets.simulate(8000, 60, effect=0.0, group_effect=0.0, mean_count=3.0, dispersion=dispersion)
    counts = adata.X.toarray().astype(np.float64)
    mean = counts.mean(0)
    excess = np.median((counts.var(0) - mean) / mean**2)
    of_depth = np.exp(0.3**2)  # E[d**2] / E[d]**2 of the log-normal depth
    assert excess == pytest.approx((1 + dispersion) * of_depth - 1, rel=0.12)


def test_mean_count_sets_the_density():
    sparse, dense = (datasets.simulate(200, 100, mean_count=m) for m in (0.05, 2.0))
    assert sparse.X.nnz < 0.15 * 200 * 100
    assert dense.X.nnz > 0.5 * 200 * 100


def test_donors_differ_only_when_asked():
    spread = []
    for group_effect in (0.0, 1.0):
        adata = datasets.simulate(1200, 40, group_effect=group_effect, effect=0.0, mean_count=5.0)
        by_donor = pd.DataFrame(adata.X.toarray()).groupby(adata.obs["donor"].to_numpy()).mean()
        spread.append(np.log(by_donor).std().median())
    assert spread[0] < 0.15 < 0.7 < spread[1]


def test_missing_values():
    adata = datasets.simulate(2000, 20, missing=0.3)
    for name in ("cell_type", "sex"):
        known = adata.obs[name].notna()
        assert known.mean() == pytest.approx(0.7, abs=0.04)
        assert isinstance(adata.obs[name].dtype, pd.CategoricalDtype)
        assert (adata.obs[name][known].astype(str) == adata.obsm["truth"][name][known].astype(str)).all()
    assert adata.obsm["truth"].notna().all(axis=None)
    assert adata.obs["donor"].notna().all()


def test_h5ad_round_trip(tmp_path):
    adata = datasets.simulate(30, 20, missing=0.1)
    adata.write_h5ad(tmp_path / "cells.h5ad")
    back = anndata.read_h5ad(tmp_path / "cells.h5ad")
    pd.testing.assert_frame_equal(back.obs, adata.obs)
    pd.testing.assert_frame_equal(back.obsm["truth"], adata.obsm["truth"])
    assert back.uns["simulation"] == adata.uns["simulation"]


def test_phenotypes_without_sizes():
    with pytest.raises(TypeError, match="`phenotypes`: found list, but a mapping of names to values is needed"):
        datasets.simulate(30, 20, phenotypes=["sex"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"missing": 1.5}, "`missing`: found 1.5, but it must be a fraction"),
        ({"phenotypes": {"sex": 1}}, r"`phenotypes`: \['sex'\] have fewer than 2 categories"),
        ({"n_obs": 10.5}, "`n_obs`: found 10.5, but it must be at least 1"),
        ({"n_vars": "9"}, "`n_vars`: found '9', but it must be at least 1"),
        ({"n_obs": 5}, "`n_obs`: found 5 cells, but 6 categories or donors"),
        ({"n_vars": 8}, "`n_vars`: 4 markers are not enough for 5 categories"),
    ],
    ids=["share", "one category", "half a cell", "text", "few cells", "few genes"],
)
def test_impossible_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        datasets.simulate(**arguments)
