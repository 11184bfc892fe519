import numpy as np
import pytest
from anndata import AnnData
from sklearn.metrics import confusion_matrix

from polygene_scverse import get

TRUE, GUESSED = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 0, 1, 1, 1, 1])


@pytest.fixture
def scored():
    """Six hidden genes in four bins, of which the last does not occur; four hidden values of ``sex``."""
    genes = confusion_matrix(TRUE, GUESSED, labels=range(4))
    note = {"genes": genes, "phenotypes": {"sex": np.array([[3, 1], [0, 0]])}, "categories": {"sex": ["f", "m"]}}
    return AnnData(np.ones((2, 2), dtype=np.float32), uns={"polygene": {"tokens": note, "mine": note}})


@pytest.mark.parametrize("normalize", [None, "true", "pred", "all"], ids=str)
def test_as_scikit_learn(scored, normalize):
    table = get.token_confusion(scored, normalize=normalize)
    expected = confusion_matrix(TRUE, GUESSED, labels=range(4), normalize=normalize)
    np.testing.assert_allclose(table, expected)
    assert list(table.index) == list(table.columns) == ["bin 0", "bin 1", "bin 2", "bin 3"]
    assert (table.index.name, table.columns.name) == ("hidden", "guessed")


def test_a_phenotype(scored):
    table = get.token_confusion(scored, "sex", normalize="true", key="mine")
    assert table.loc["f"].tolist() == [0.75, 0.25]
    assert table.loc["m"].tolist() == [0, 0]


def test_what_is_read_is_not_changed(scored):
    table = get.token_confusion(scored)
    table.iloc[0, 0] = 99
    assert scored.uns["polygene"]["tokens"]["genes"][0, 0] == 2


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"key": "other"}, KeyError, r"`key`: there are no scores of hidden tokens.*\['other'\].*pgs.tl.score_tokens"),
        ({"phenotype": "age"}, KeyError, r"`phenotype`: 'age' is not one of the scored phenotypes \['sex'\]"),
        ({"normalize": "rows"}, ValueError, "`normalize`: found 'rows'"),
    ],
    ids=["key", "phenotype", "normalize"],
)
def test_what_is_not_there(scored, arguments, error, match):
    with pytest.raises(error, match=match):
        get.token_confusion(scored, **arguments)
