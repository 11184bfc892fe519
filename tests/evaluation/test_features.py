import numpy as np
import scanpy as sc

from polygene_scverse.evaluation._features import read_features


def test_expression_is_that_of_scanpy(trained):
    cells, model = trained
    features = read_features(model, cells)
    expected = cells.copy()
    sc.pp.normalize_total(expected, target_sum=1e4)
    sc.pp.log1p(expected)
    np.testing.assert_allclose(features.x, expected[:, model.genes].X.toarray(), rtol=1e-5)
    np.testing.assert_array_equal(features.counts.toarray(), cells[:, model.genes].X.toarray())
    log = read_features(model, expected)
    np.testing.assert_allclose(log.x, features.x, rtol=1e-5)
    assert log.counts is None
    some = features.take(np.array([5, 2]))
    np.testing.assert_array_equal(some.x, features.x[[5, 2]])
    np.testing.assert_array_equal(some.counts.toarray(), features.counts[[5, 2]].toarray())


def test_expression_of_a_layer(trained):
    cells, model = trained
    expected = cells[:, model.genes].X.toarray()
    cells.layers["counts"] = cells.X
    cells.X = np.ones(cells.shape)
    np.testing.assert_array_equal(read_features(model, cells, layer="counts").counts.toarray(), expected)
