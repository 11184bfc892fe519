from dataclasses import replace

import numpy as np
import pandas as pd
import scanpy as sc
import scipy.sparse as sp

from polygene_scverse import datasets
from polygene_scverse.data.read._expression import Expression
from polygene_scverse.data.read._phenotypes import find_phenotypes
from polygene_scverse.data.read._scale import OURS


def test_expression_is_that_of_raw():
    adata, reduced = datasets.pbmc68k(), sc.datasets.pbmc68k_reduced()
    assert sp.isspmatrix_csr(adata.X)
    assert adata.X.dtype == np.float32
    np.testing.assert_array_equal(adata.X.toarray(), reduced.raw.X.toarray())
    assert adata.var_names.equals(reduced.raw.var_names)
    assert adata.raw is None
    assert Expression.of(adata).scale == replace(OURS, complete=False)


def test_annotation_is_kept():
    adata, reduced = datasets.pbmc68k(), sc.datasets.pbmc68k_reduced()
    pd.testing.assert_frame_equal(adata.obs, reduced.obs)
    np.testing.assert_array_equal(adata.obsm["X_umap"], reduced.obsm["X_umap"])
    assert list(adata.uns["bulk_labels_colors"]) == list(reduced.uns["bulk_labels_colors"])
    assert find_phenotypes(adata.obs) == ["bulk_labels", "phase"]


def test_each_call_gives_its_own():
    first = datasets.pbmc68k()
    first.X.data[:] = 0
    first.obs["phase"] = "G1"
    second = datasets.pbmc68k()
    assert second.X.data.min() > 0
    assert second.obs["phase"].nunique() == 3
