"""Cells that the small model is asked about: log1p data, so that a gene that is left out changes no other one."""

import numpy as np
import pytest

from polygene_scverse.data.feed._adata_cells import AnnDataCells
from polygene_scverse.data.read._expression import Expression


@pytest.fixture
def logged(query):
    """Cells of `query` as log1p of counts per 10,000; some phenotypes are not known."""
    x = query.X.toarray().astype(np.float64)
    query.X = np.log1p(1e4 * x / x.sum(1, keepdims=True)).astype(np.float32)
    query.obs.iloc[::7, list(query.obs).index("sex")] = np.nan
    return query


@pytest.fixture
def source_of(trained_model):
    """A function that makes a source of the cells of a data set."""

    def source_of(adata, rows=None):
        rows = np.arange(adata.n_obs) if rows is None else rows
        edges = np.array(trained_model.edges_)
        layout, columns = trained_model.layout, trained_model.categories
        return AnnDataCells.of(Expression.of(adata), adata.obs, rows, layout, columns, edges)

    return source_of


@pytest.fixture
def table(logged, source_of):
    """The cells in another order, in memory."""
    return source_of(logged, np.random.default_rng(0).permutation(logged.n_obs)).read_all()
