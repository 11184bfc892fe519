"""From probabilities to categories."""

import numpy as np
import pandas as pd
import pytest

from polygene_scverse.model import Polygene


@pytest.fixture
def trained(trained_model, apart):
    """A copy whose counts may be changed."""
    return apart(trained_model)


def table(model, rows, phenotype="cell_type"):
    return {phenotype: pd.DataFrame(rows, columns=model.categories[phenotype])}


def test_counts_are_those_of_the_training_cells(trained):
    codes = trained.codes(trained.train_indices)
    for of, (name, categories) in zip(trained.fitted_.category_counts, trained.categories.items(), strict=True):
        known = codes[name][codes[name] >= 0]
        assert of.tolist() == [int((known == i).sum()) for i in range(len(categories))]


@pytest.mark.parametrize("balance", [0.0, 0.3, 0.5, 1.0])
def test_is_the_category_of_the_largest_ratio(trained, balance):
    rng = np.random.default_rng(0)
    rows = rng.dirichlet([0.5] * 3, size=200)
    counts = trained.fitted_.category_counts[0].astype(float)
    expected = (rows / (counts / counts.sum()) ** balance).argmax(1)
    assert (trained.decide(table(trained, rows), balance=balance)["cell_type"].cat.codes == expected).all()


def test_balance_favours_the_rare(trained):
    trained.fitted_.category_counts[0] = np.array([90.0, 9.0, 1.0], dtype=np.float32)
    rows = [[0.6, 0.35, 0.05]]
    chosen = [trained.decide(table(trained, rows), balance=b)["cell_type"].cat.codes.iloc[0] for b in (0, 0.5, 1)]
    assert chosen == [0, 1, 2]


def test_without_counts_the_most_probable(trained):
    trained.fitted_.category_counts = []
    rows = np.random.default_rng(1).dirichlet([1.0] * 3, size=50)
    chosen = trained.decide(table(trained, rows), balance=1.0)["cell_type"].cat.codes
    assert (chosen == rows.argmax(1)).all()


def test_a_category_without_training_cells_is_not_favoured_without_bound(trained):
    trained.fitted_.category_counts[0] = np.array([50.0, 50.0, 0.0], dtype=np.float32)
    chosen = trained.decide(table(trained, [[0.5, 0.49, 0.01]]), balance=1.0)["cell_type"].cat.codes
    assert chosen.tolist() == [0]


def test_saved_with_the_model(trained, tmp_path):
    trained.save(tmp_path / "model")
    loaded = Polygene.load(tmp_path / "model", adata=False)
    assert len(loaded.fitted_.category_counts) == 2
    for found, counts in zip(loaded.fitted_.category_counts, trained.fitted_.category_counts, strict=True):
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, counts)
        assert counts.sum() > 0
    for name, shares in trained.log_shares.items():
        np.testing.assert_array_equal(loaded.log_shares[name], shares)


def test_index_is_kept(trained):
    tables = trained.predict_phenotype(indices=[5, 3])
    assert list(trained.decide(tables).index) == list(tables["sex"].index)


@pytest.mark.parametrize("balance", [-0.1, 1.1, float("nan")])
def test_refuses_a_balance_out_of_range(trained, balance):
    with pytest.raises(ValueError, match=r"`balance`: found .* between 0 \(most probable\) and 1 \(balanced\)"):
        trained.decide(table(trained, [[1.0, 0.0, 0.0]]), balance=balance)


def test_refuses_other_columns(trained):
    with pytest.raises(ValueError, match=r"`probabilities`: the columns of 'sex' are \['a', 'b'\], but the model's"):
        trained.decide({"sex": pd.DataFrame([[0.5, 0.5]], columns=["a", "b"])})
