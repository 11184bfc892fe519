import matplotlib.pyplot as plt
import numpy as np
import pytest
from anndata import AnnData

from polygene_scverse import get, pl


@pytest.fixture
def scored():
    genes = np.array([[90, 8, 2, 0], [5, 12, 3, 0], [1, 4, 5, 0], [0, 0, 0, 0]])
    note = {"genes": genes, "phenotypes": {"sex": np.array([[30, 10], [2, 38]]), "age": np.zeros((2, 2), dtype=int)}}
    note["categories"] = {"sex": ["female", "male"], "age": ["old", "young"]}
    of = np.array(["", "transformer, sex", "transformer, age"])
    nll = np.array([1.2544, 0.5, np.nan])
    note["scores"] = {"tokens": np.array(["genes", "phenotypes", "phenotypes"]), "of": of, "nll": nll}
    return AnnData(np.ones((2, 2), dtype=np.float32), uns={"polygene": {"tokens": note}})


@pytest.mark.parametrize("normalize", [None, "true", "pred", "all"], ids=str)
def test_squares_are_the_matrix(scored, normalize):
    ax = pl.token_confusion(scored, "sex", normalize=normalize, show=False)
    expected = get.token_confusion(scored, "sex", normalize=normalize)
    np.testing.assert_array_equal(ax.images[0].get_array(), expected)
    assert ax.get_title() == "sex, transformer: NLL 0.5"


def test_words_that_do_not_occur_are_left_out(scored):
    ax = pl.token_confusion(scored, show=False)
    assert [t.get_text() for t in ax.get_xticklabels()] == ["bin 0", "bin 1", "bin 2"]
    assert [t.get_text() for t in ax.get_yticklabels()] == ["bin 0 (100)", "bin 1 (20)", "bin 2 (10)"]
    assert (ax.get_title(), ax.get_ylabel()) == ("hidden genes: NLL 1.25", "hidden (tokens)")


def test_scores_of_a_version_without_nll(scored):
    del scored.uns["polygene"]["tokens"]["scores"]["nll"]
    assert pl.token_confusion(scored, show=False).get_title() == "hidden genes"
    assert pl.token_confusion(scored, "sex", show=False).get_title() == "sex, transformer"


def test_axes_of_the_caller_and_a_file(scored, tmp_path):
    _, ax = plt.subplots()
    assert pl.token_confusion(scored, ax=ax, cmap="viridis", show=False, save=tmp_path / "bins.png") is ax
    assert ax.images[0].get_cmap().name == "viridis"
    assert (tmp_path / "bins.png").stat().st_size > 5_000


def test_nothing_was_hidden(scored):
    with pytest.raises(ValueError, match="`phenotype`: no known token of 'age' was hidden"):
        pl.token_confusion(scored, "age", show=False)


def test_nothing_was_scored(scored):
    with pytest.raises(KeyError, match="`key`: there are no scores of hidden tokens"):
        pl.token_confusion(scored, key="other", show=False)
