"""Which labels mean "no value": real ones, a short list that is said, and what the user names."""

import warnings

import numpy as np
import pandas as pd
import pytest

import polygene_scverse as pgs
from polygene_scverse.data.read._phenotypes import categories_of, encode, missing_words


def arms(*labels):
    adata = pgs.datasets.simulate(300, 120)
    adata.obs["arm"] = np.array(labels, dtype=object)[np.arange(300) % len(labels)]
    return adata


def train(adata, **kwargs):
    return pgs.tl.train(adata, phenotypes=["arm"], max_epochs=1, n_genes=50, verbose=False, **kwargs)


@pytest.mark.parametrize("word", ["none", "None", "NA", "na", "missing", "-"])
def test_kept_and_said(word):
    with pytest.warns(UserWarning, match=f"'{word}' \\(100 cells in 'arm'\\) is kept as a label.*missing=") as said:
        model = train(arms(word, "IFNb", "TNF"))
    assert word in model.categories["arm"]
    assert sum("kept as a label" in str(w.message) for w in said) == 1


@pytest.mark.parametrize("word", ["unknown", "Unknown", "nan", "<NA>", "unassigned", "n/a", "N/A"])
def test_read_as_missing_and_said(word):
    with pytest.warns(UserWarning, match=f"'{word}' \\(100 cells in 'arm'\\) is read as missing"):
        model = train(arms(word, "IFNb", "TNF"))
    assert model.categories["arm"] == ["IFNb", "TNF"]


@pytest.mark.parametrize("word", [None, np.nan, "", "  "])
def test_really_missing_without_a_word(word):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        assert train(arms(word, "IFNb", "TNF")).categories["arm"] == ["IFNb", "TNF"]


def test_further_words_are_named(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        model = train(arms("none", "IFNb", "TNF", "unknown"), missing=["None"])
        assert model.categories["arm"] == ["IFNb", "TNF"]
        model.save(tmp_path / "model")
        loaded = pgs.model.Polygene.load(tmp_path / "model", arms("none", "IFNb", "TNF"))
    assert list(loaded.codes()["arm"][:3]) == [-1, 0, 1]


def test_every_label_is_kept_by_an_empty_list():
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        model = train(arms("unknown", "drug"), missing=[])
    assert model.categories["arm"] == ["drug", "unknown"]
    assert set(model.encode(pd.DataFrame({"arm": ["unknown", "drug"]}))["arm"]) == {0, 1}


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (("unknown", "drug"), r"only one category, 'drug'.*\['unknown'\] is read as missing: pass missing=\[\]"),
        (("unknown", "n/a"), r"all 300 values .* are missing.*\['unknown', 'n/a'\] is read as missing"),
    ],
)
def test_errors_say_what_was_read_as_missing(labels, message):
    with pytest.raises(ValueError, match=message):
        train(arms(*labels))


def test_two_arms_one_called_none():
    with pytest.warns(UserWarning, match=r"'none' \(150 cells"):
        assert train(arms("none", "drug")).categories["arm"] == ["drug", "none"]


def test_setup_anndata_has_it_too():
    adata = arms("none", "IFNb", "TNF")
    pgs.model.Polygene.setup_anndata(adata, phenotype_keys=["arm"], missing="none")
    assert pgs.model.Polygene(adata, n_genes=20).categories["arm"] == ["IFNb", "TNF"]


def test_files(tmp_path):
    adata = arms("none", "IFNb", "TNF", "unknown")
    adata.write_h5ad(tmp_path / "a.h5ad")
    with pytest.warns(UserWarning, match=r"'unknown' \(75 cells .*; 'none' \(75 cells"):
        assert train(tmp_path / "a.h5ad").categories["arm"] == ["IFNb", "TNF", "none"]
    assert train(tmp_path / "a.h5ad", missing=["none"]).categories["arm"] == ["IFNb", "TNF"]


def test_evaluate_reads_labels_as_training_does():
    adata = arms("none", "IFNb", "TNF")
    table = pgs.tl.evaluate(
        adata,
        phenotypes=["arm"],
        baselines="majority",
        n_bootstrap=5,
        train_kwargs={"max_epochs": 1, "n_genes": 20, "missing": ["none"]},
    )
    assert set(table["n_cells"]) == {200}


def test_codes():
    column = pd.Series(["none", "a", None, "unknown", "B", "b"], name="x")
    assert categories_of(column) == ["B", "a", "b", "none"]
    assert categories_of(column, missing_words("NONE")) == ["B", "a", "b"]
    codes, unseen = encode(column, ["a", "unknown"])
    assert list(codes) == [-1, 0, -1, 1, -1, -1]
    assert unseen == ["none", "B", "b"]
