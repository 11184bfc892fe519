"""On simulated cells: genes that mark one cell type in one tissue and another type in the other are found."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from anndata import AnnData
from sklearn.metrics import roc_auc_score

import polygene_scverse as pgs

N_TYPES, N_GENES, N_PLANTED = 4, 120, 12


@pytest.fixture(scope="module")
def planted():
    """Six donors, two tissues, four cell types; some genes mark another type in the second tissue, others rise there."""
    rng = np.random.default_rng(0)
    marked = np.where(np.arange(N_GENES) < 80, np.arange(N_GENES) % N_TYPES, -1)
    moved = marked.copy()
    moved[:N_PLANTED] = (marked[:N_PLANTED] + 1 + np.arange(N_PLANTED) % 3) % N_TYPES
    rises = np.where((np.arange(N_GENES) >= N_PLANTED) & (np.arange(N_GENES) % 4 == 0), rng.normal(0, 1, N_GENES), 0)
    base, blocks, obs = rng.normal(-0.5, 0.6, N_GENES), [], []
    for donor in range(6):
        own = rng.normal(0, 0.2, N_GENES)
        for tissue, of_gene in enumerate((marked, moved)):
            kind = rng.integers(0, N_TYPES, 70)
            rate = base + own + tissue * rises + 2.0 * (kind[:, None] == of_gene) + rng.normal(0, 0.3, (70, 1))
            blocks.append(rng.poisson(np.exp(rate)))
            obs.append(pd.DataFrame({"cell_type": kind, "tissue": tissue, "donor": donor}))
    table = pd.concat(obs, ignore_index=True)
    table = pd.DataFrame({c: pd.Categorical(c[0] + table[c].astype(str)) for c in table})
    table.index = table.index.astype(str)
    adata = AnnData(sp.csr_matrix(np.concatenate(blocks).astype(np.float32)), obs=table)
    adata.var_names = [f"gene{i}" for i in range(N_GENES)]
    adata.var["planted"], adata.var["rises"] = np.arange(N_GENES) < N_PLANTED, rises != 0
    network = {"n_hidden": 16, "n_layers": 1, "n_intermediate": 16}
    model = pgs.tl.train(
        adata, phenotypes=["cell_type", "tissue"], group_key="donor", max_epochs=2, verbose=False, model_kwargs=network
    )
    return adata, model


def test_planted_genes_are_found_and_those_that_only_rise_are_not(planted):
    adata, model = planted
    before = list(adata.obs), list(adata.var)
    pgs.tl.polyfunctionality(adata, "tissue", group_key="donor", model=model)
    assert (list(adata.obs), list(adata.var)) == before
    table = pgs.get.polyfunctionality(adata).set_index("gene")
    truth = adata.var["planted"][table.index]
    assert (table["fdr"][truth] < 0.05).mean() >= 0.9
    assert (table["p_value"][~truth] < 0.05).mean() < 0.15
    ours = roc_auc_score(truth, -table["p_value"].fillna(1.0))
    assert ours > 0.95 > 0.6 > roc_auc_score(truth, table["expression_shift"])
    assert (np.diff(table["p_value"].fillna(2.0)) >= 0).all()
    assert set(table["farthest"]) <= {"t0", "t1"}
    assert adata.uns["polygene"]["polyfunctionality"]["n_null"] == 6


def test_the_result_is_kept_in_files_and_seeds_repeat(planted, tmp_path):
    adata, model = planted[0].copy(), planted[1]
    tables = []
    for seed in (0, 0, 1):
        pgs.tl.polyfunctionality(adata, "tissue", group_key="donor", model=model, n_permutations=5, seed=seed)
        tables.append(pgs.get.polyfunctionality(adata).set_index("gene").sort_index())
    pd.testing.assert_frame_equal(tables[0], tables[1])
    pd.testing.assert_series_equal(tables[0]["shift"], tables[2]["shift"])
    assert (tables[0]["p_value"] != tables[2]["p_value"]).any()
    adata.write_h5ad(tmp_path / "cells.h5ad")
    read = pgs.get.polyfunctionality(ad.read_h5ad(tmp_path / "cells.h5ad")).set_index("gene").sort_index()
    np.testing.assert_allclose(read["p_value"], tables[2]["p_value"])


@pytest.mark.parametrize("group_key", [None, "donor"])
def test_without_enough_groups_no_null_is_given(group_key, planted):
    adata = planted[0][planted[0].obs["donor"].isin(["d0", "d1", "d2", "d3"])].copy()
    with pytest.warns(
        UserWarning, match="`group_key`: too few groups for a test: .* [14] groups at most, and 5 are needed"
    ):
        pgs.tl.polyfunctionality(adata, "tissue", group_key=group_key, model=planted[1])
    table = pgs.get.polyfunctionality(adata)
    assert table[["p_value", "fdr"]].isna().all(axis=None)
    assert (np.diff(table["shift"]) <= 0).all()


@pytest.mark.filterwarnings("ignore:`group_key`")
def test_a_model_of_the_contexts_alone_is_said_to_tell_little(trained, small):
    cells = trained[0].copy()
    model = pgs.tl.train(cells, phenotypes="sex", **small)
    with pytest.warns(UserWarning, match="`groupby`: the only phenotype of the model is 'sex'"):
        pgs.tl.polyfunctionality(cells, "sex", model=model)


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"groupby": "organ"}, KeyError, r"`groupby`: \['organ'\] are not columns"),
        ({"group_key": "mouse"}, KeyError, r"`group_key`: \['mouse'\] are not columns"),
        ({"groupby": "one"}, ValueError, "`groupby`: .* has only one context, 'a'"),
        ({"min_cells": 0}, ValueError, "`min_cells`: found 0, but it must be at least 1"),
        ({"min_cells": 10**6}, ValueError, "`min_cells`: no gene is expressed in 1000000 cells of two contexts"),
    ],
)
def test_what_cannot_be_asked_is_refused(arguments, error, match, trained):
    cells, _ = trained
    cells.obs["one"] = "a"
    with pytest.raises(error, match=match):
        pgs.tl.polyfunctionality(cells, **{"groupby": "sex", "group_key": "donor", **arguments})
    assert "polyfunctionality" not in cells.uns["polygene"]


def test_the_model_takes_rows(trained):
    cells, model = trained
    rows, arguments = np.arange(0, cells.n_obs, 2), {"groupby": "sex", "min_cells": 2}
    found = model.polyfunctionality(cells, indices=rows, **arguments)
    expected = model.polyfunctionality(cells[rows].copy(), **arguments)
    assert np.isfinite(expected.shift).any()
    np.testing.assert_allclose(found.shift, expected.shift, atol=1e-5)
