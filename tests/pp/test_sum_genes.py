import anndata as ad
import numpy as np
import pytest
import scanpy as sc
import scipy.sparse as sp

import polygene_scverse as pgs

pytestmark = pytest.mark.filterwarnings("ignore:Variable names are not unique")


@pytest.fixture
def cells(simulated):
    """Cells of which the first and the last column are one gene."""
    simulated.layers["twice"] = simulated.X * 2
    simulated.obsm["X_any"] = np.ones((simulated.n_obs, 2))
    simulated.var["symbol"] = [*(f"s{i // 2}" for i in range(59)), None]
    simulated.var_names = [*simulated.var_names[:-1], simulated.var_names[0]]
    return simulated


def test_columns_of_one_name_become_their_sum(cells):
    before = cells.X.copy()
    summed = pgs.pp.sum_genes(cells)
    assert list(summed.var_names) == list(cells.var_names[:-1])
    np.testing.assert_array_equal(summed.X[:, 0].toarray()[:, 0], before[:, [0, -1]].toarray().sum(1))
    np.testing.assert_array_equal(summed.X[:, 1:].toarray(), before[:, 1:-1].toarray())
    np.testing.assert_array_equal(summed.layers["twice"].toarray(), 2 * summed.X.toarray())
    assert sp.issparse(summed.X)
    assert summed.obs.equals(cells.obs)
    assert summed.obsm["X_any"].shape == (300, 2)
    np.testing.assert_array_equal(cells.X.toarray(), before.toarray())


def test_names_of_a_column_are_those_that_scanpy_sums(cells):
    summed = pgs.pp.sum_genes(cells, gene_symbols="symbol")
    assert list(summed.var_names) == [*(f"s{i}" for i in range(30)), "gene0"]
    some = cells[:, :-1].copy()
    expected = sc.get.aggregate(some, "symbol", "sum", axis="var")
    np.testing.assert_allclose(summed[:, expected.var_names].X.toarray(), expected.layers["sum"])


def test_the_error_about_equal_names_can_be_followed(cells, small):
    with pytest.raises(ValueError, match=r"add up their counts: adata = pgs.pp.sum_genes\(adata\)"):
        pgs.tl.train(cells, phenotypes="cell_type", **small)
    del cells.layers["twice"]
    model = pgs.tl.train(pgs.pp.sum_genes(cells), phenotypes="cell_type", **{**small, "max_epochs": 1})
    assert len(model.genes) == 59


def test_logarithms_and_unknown_columns_are_refused(cells):
    with pytest.raises(KeyError, match=r"`gene_symbols`: 'none' is not a column of adata\.var"):
        pgs.pp.sum_genes(cells, gene_symbols="none")
    sc.pp.normalize_total(cells, target_sum=1e4)
    sc.pp.log1p(cells)
    with pytest.raises(ValueError, match="only counts can be summed"):
        pgs.pp.sum_genes(cells)


@pytest.mark.parametrize("backed", ["r", None])
def test_a_file_without_x(cells, tmp_path, backed):
    cells.X = None
    cells.write_h5ad(tmp_path / "cells.h5ad")
    expected = pgs.pp.sum_genes(cells)
    summed = pgs.pp.sum_genes(ad.read_h5ad(tmp_path / "cells.h5ad", backed=backed))
    assert summed.X is None
    np.testing.assert_array_equal(summed.layers["twice"].toarray(), expected.layers["twice"].toarray())


@pytest.mark.parametrize("form", ["csr_matrix", "csc_matrix", "toarray"])
def test_a_backed_file(cells, tmp_path, form):
    expected = pgs.pp.sum_genes(cells).X.toarray()
    cells.X = cells.X.toarray() if form == "toarray" else getattr(sp, form)(cells.X)
    cells.write_h5ad(tmp_path / "cells.h5ad")
    summed = pgs.pp.sum_genes(ad.read_h5ad(tmp_path / "cells.h5ad", backed="r"))
    np.testing.assert_array_equal(summed.X.toarray(), expected)
