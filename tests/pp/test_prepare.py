import numpy as np
import pytest
import scanpy as sc
import scipy.sparse as sp

import polygene_scverse as pgs


def test_ranks_follow_scanpys_dispersions(simulated):
    cells = simulated.copy()
    before = cells.X.copy()
    pgs.pp.prepare(cells)
    other = simulated.copy()
    sc.pp.normalize_total(other, target_sum=1e4)
    sc.pp.log1p(other)
    sc.pp.highly_variable_genes(other)
    by_scanpy = other.var["dispersions_norm"].fillna(-np.inf)
    ranked = cells.var["highly_variable_rank"].dropna().sort_values().index
    assert (np.diff(by_scanpy[ranked]) <= 0).all()
    assert (before != cells.X).nnz == 0
    assert cells.uns["polygene"]["prepare"]["scale"] == "counts"


def test_genes_that_no_cell_expresses_have_no_rank(simulated):
    cells = simulated.copy()
    x = cells.X.toarray()
    x[:, 3] = 0
    cells.X = sp.csr_matrix(x)
    pgs.pp.prepare(cells)
    ranks = cells.var["highly_variable_rank"]
    assert ranks.isna().sum() == 1
    assert np.isnan(ranks.iloc[3])


def test_batches_and_other_notes_are_kept(simulated):
    cells = simulated.copy()
    cells.uns["polygene"] = {"train": {"seed": 1}}
    pgs.pp.prepare(cells, batch_key="donor")
    assert cells.uns["polygene"]["prepare"]["batch_key"] == "donor"
    assert cells.uns["polygene"]["train"] == {"seed": 1}


def test_an_unknown_batch(simulated):
    with pytest.raises(KeyError, match=r"`batch_key`: \['batch'\] are not columns"):
        pgs.pp.prepare(simulated.copy(), batch_key="batch")


def test_raw_with_other_genes(simulated):
    cells = simulated[:, :10].copy()
    cells.raw = simulated.copy()
    with pytest.raises(ValueError, match=r"adata.raw has \d+ genes and adata has 10"):
        pgs.pp.prepare(cells, use_raw=True)


def test_one_cell_is_too_few(simulated):
    with pytest.raises(ValueError, match="`adata`: found 1 cells, but genes are ranked by how they vary"):
        pgs.pp.prepare(simulated[:1].copy())
