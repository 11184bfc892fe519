"""Which cells and genes are compared, and what is refused."""

import numpy as np
import pytest
from anndata import AnnData

from polygene_scverse.evaluation._generated_cells import read_sets

ARGUMENTS = {"n_genes": 30, "max_cells": 400, "layer": None, "seed": 0}


@pytest.fixture
def parts(cells):
    """Generated, held-out and training cells; the last have an unknown gene, and in another order."""
    one, two, three = (cells[i::3].copy() for i in range(3))
    three = three[:, ::-1].copy()
    three.var_names = ["other", *three.var_names[1:]]
    return one, two, three


def test_counts_of_shared_genes_by_name(parts):
    one, two, three = parts
    found = read_sets(one, two, three, ["cell_type"], **{**ARGUMENTS, "n_genes": 500})
    assert len(found.genes) == 59
    assert "gene59" not in found.genes
    for part, source in ((found.generated, one), (found.reference, two), (found.real, three)):
        table = {tuple(row) for row in source[:, found.genes].X.toarray()}
        assert {tuple(row) for row in part.counts} <= table
    assert found.generated.classes.tolist() == found.reference.classes.tolist()
    assert found.labels["cell_type"].tolist() == ["B cell", "NK cell", "T cell"]
    means = [one[one.obs["cell_type"] == name, found.genes[0]].X.mean() for name in found.labels["cell_type"]]
    drawn = [found.generated.counts[found.generated.classes == k, 0].mean() for k in range(3)]
    assert np.argsort(drawn).tolist() == np.argsort(means).tolist()


def test_logarithms_are_read_as_counts(parts):
    one, two, three = parts
    log = two.copy()
    totals = np.asarray(two.X.sum(1)).ravel()
    log.X = two.X.multiply(1e4 / totals[:, None]).log1p().tocsr().astype(np.float32)
    expected, found = (read_sets(one, part, three, ["cell_type"], **ARGUMENTS) for part in (two, log))
    np.testing.assert_allclose(found.reference.counts, expected.reference.counts, rtol=1e-4)
    assert found.genes == expected.genes


def test_counts_of_generated_cells_and_a_layer_of_the_others(parts):
    one, two, three = parts
    expected = read_sets(one, two, three, ["cell_type"], **ARGUMENTS)
    one.layers["counts"] = one.X.copy()
    one.X = one.X.log1p()
    for part in (two, three):
        part.layers["raw_counts"] = part.X.copy()
        part.X = None
    found = read_sets(one, two, three, ["cell_type"], **{**ARGUMENTS, "layer": "raw_counts"})
    np.testing.assert_array_equal(found.generated.counts, expected.generated.counts)
    np.testing.assert_array_equal(found.real.counts, expected.real.counts)


def test_without_training_cells_the_reference_is_halved(parts):
    one, two, _ = parts
    found = read_sets(one, two, None, ["cell_type"], **ARGUMENTS)
    assert found.needed == 20
    known = int(two.obs["cell_type"].notna().sum())
    assert len(found.real.classes) + len(found.reference.classes) <= known
    assert abs(len(found.real.classes) - known / 2) < 5


def test_classes_with_few_cells_are_left_out(parts):
    one, two, three = parts
    few = np.flatnonzero(one.obs["cell_type"] == "B cell")[9:]
    one = one[np.setdiff1d(np.arange(one.n_obs), few)].copy()
    found = read_sets(one, two, three, ["cell_type"], **ARGUMENTS)
    assert found.left_out == ["B cell"]
    assert found.labels["cell_type"].tolist() == ["NK cell", "T cell"]
    assert set(found.real.classes) == {0, 1}


def test_no_more_cells_than_asked_for(parts):
    one, two, three = parts
    found = read_sets(one, two, three, ["cell_type"], **{**ARGUMENTS, "max_cells": 45})
    assert 30 <= len(found.reference.classes) <= 45
    assert len(found.real.classes) <= 90


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        ({"n_genes": 1}, ValueError, "`n_genes`, `max_cells`: found 1 and 400"),
        ({"max_cells": 10}, ValueError, "`n_genes`, `max_cells`: found 30 and 10"),
        ({"columns": []}, ValueError, "`groupby`: found no column"),
        ({"columns": ["age"]}, KeyError, r"`groupby`: \['age'\] are not columns of adata.obs"),
        ({"reference": 3}, TypeError, "`reference`: found int"),
        ({"layer": "x"}, KeyError, "`layer`: 'x' is not one of"),
    ],
)
def test_arguments(parts, change, kind, words):
    arguments = {"adata": parts[0], "reference": parts[1], "training": parts[2], "columns": ["cell_type"]}
    with pytest.raises(kind, match=words):
        read_sets(**{**arguments, **ARGUMENTS, **change})


def test_other_genes(parts):
    one, two, three = parts
    two = two[:, :20].copy()
    with pytest.raises(ValueError, match=r"`reference`: 20 of the 60 genes of adata.*At least half are needed"):
        read_sets(one, two, three, ["cell_type"], **ARGUMENTS)


def test_a_column_that_the_training_cells_lack(parts):
    del parts[2].obs["cell_type"]
    with pytest.raises(KeyError, match=r"are not columns of training.obs"):
        read_sets(*parts, ["cell_type"], **ARGUMENTS)


def test_labels_that_are_spelled_otherwise(parts):
    one, two, three = parts
    one.obs["cell_type"] = one.obs["cell_type"].astype(str).str.upper()
    with pytest.raises(ValueError, match=r"`groupby`: two classes with 10 cells.*adata \[0, 0, 0\]"):
        read_sets(one, two, three, ["cell_type"], **ARGUMENTS)


def test_scaled_data(parts):
    one, two, three = parts
    two = AnnData(two.X.toarray() - 1.0, obs=two.obs, var=two.var)
    with pytest.raises(ValueError, match="negative values"):
        read_sets(one, two, three, ["cell_type"], **ARGUMENTS)
