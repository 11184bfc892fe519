"""Expression as the linear path sees it, against scanpy and dense numpy. 11 genes."""

import anndata as ad
import numpy as np
import pytest
import scanpy as sc
import scipy.sparse as sp

from polygene_scverse.fit._gene_scaler import ADDED_DEVIATION, MAX_DEVIATIONS, GeneScaler, rescale

N_GENES = 11


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rescaled_expression_is_what_scanpy_gives_for_a_tenth_of_the_counts(dtype):
    adata = ad.AnnData(np.random.default_rng(0).poisson(1.5, (67, N_GENES)).astype(dtype))
    less = adata.copy()
    for data, total in ((adata, 1e4), (less, 1e3)):
        sc.pp.normalize_total(data, target_sum=total)
        sc.pp.log1p(data)
    found = rescale(adata.X)
    assert found.dtype == dtype
    np.testing.assert_allclose(found, less.X, rtol=1e-5)


@pytest.fixture
def expression():
    """23 cells; the last gene is never expressed, and one value is far above the others."""
    rng = np.random.default_rng(1)
    x = rng.gamma(2.0, 1.0, (23, N_GENES)) * (rng.random((23, N_GENES)) < 0.5)
    x[:, 4] = 0.1 * (np.arange(23) % 2)
    x[5, 4], x[:, -1] = 9.0, 0.0
    return x


ALL = np.ones(N_GENES, dtype=bool)
SOME = np.arange(N_GENES) % 4 != 1
OF_EACH = np.random.default_rng(2).random((23, N_GENES)) < 0.7
OF_EACH[:, 2] = False
MEASURED = {"all": ALL, "some": SOME, "of each cell others": OF_EACH}


@pytest.mark.parametrize("measured", MEASURED.values(), ids=MEASURED)
def test_statistics_are_the_dense_one_liners(measured, expression):
    """Of the cells that have the gene; of a gene that none has there is nothing to say."""
    x, measured = expression * measured, np.broadcast_to(measured, expression.shape)
    found = GeneScaler.fit(sp.csr_matrix(x.astype(np.float32)), measured)
    values = [x[measured[:, g], g] if measured[:, g].any() else np.zeros(1) for g in range(N_GENES)]
    deviation = np.array([v.std() for v in values]) + ADDED_DEVIATION
    cap = np.array([v.mean() for v in values]) + MAX_DEVIATIONS * deviation
    centre = np.array([np.minimum(v, c).mean() for v, c in zip(values, cap, strict=True)])
    for name, expected in (("deviation", deviation), ("cap", cap), ("centre", centre)):
        assert getattr(found, name).dtype == np.float64
        np.testing.assert_allclose(getattr(found, name), expected, rtol=1e-5, atol=1e-7, err_msg=name)


def test_one_row_for_all_cells_is_the_same_row_for_each(expression):
    x = sp.csr_matrix(expression * SOME)
    one, each = (GeneScaler.fit(x, measured) for measured in (SOME, np.tile(SOME, (23, 1))))
    for name in ("cap", "centre", "deviation"):
        np.testing.assert_array_equal(getattr(one, name), getattr(each, name), err_msg=name)


def test_the_cap_bites_but_not_in_the_deviation(expression):
    """Of 22 values of 0 or 0.1 and one of 9: the mean of what is left is far below that of all."""
    one = np.array([0.0] * 99 + [10.0])[:, None]
    found = GeneScaler.fit(sp.csr_matrix(one), np.ones(1, dtype=bool))
    deviation = one.std() + ADDED_DEVIATION
    np.testing.assert_allclose(found.deviation, deviation)
    np.testing.assert_allclose(found.cap, 0.1 + 5 * deviation)
    np.testing.assert_allclose(found.centre, (0.1 + 5 * deviation) / 100)
    assert found.cap[0] < 10.0


@pytest.mark.parametrize("measured", MEASURED.values(), ids=MEASURED)
def test_standardised_expression_is_the_dense_one_liner(measured, expression):
    x, genes = sp.csr_matrix(expression * measured), GeneScaler.fit(sp.csr_matrix(expression), ALL)
    found = genes.standardise(x, measured)
    assert (found.shape, found.dtype) == ((23, N_GENES), np.float32)
    expected = (np.minimum(expression, genes.cap) - genes.centre) / genes.deviation * measured
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(x.toarray(), expression * measured)


@pytest.mark.parametrize("measured", MEASURED.values(), ids=MEASURED)
def test_standardised_genes_are_of_a_common_size(measured, expression):
    """Centred, and no larger than what is noted in `MAX_DEVIATIONS`; genes that nobody expresses are 0."""
    x = sp.csr_matrix(expression * measured)
    found = GeneScaler.fit(x, measured).standardise(x, measured)
    np.testing.assert_allclose(found.sum(axis=0), 0.0, atol=1e-4)
    assert found.max() < MAX_DEVIATIONS + 1.0
    assert not found[:, -1].any()
    assert found.std(axis=0).max() <= 1.0
