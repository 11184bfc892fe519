"""`polygene predict` and `polygene embed`: the files hold what the verbs write."""

import warnings

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import polygene_scverse as pgs


@pytest.fixture
def predicted(shards, model_folder):
    """Cells of a file with what the verb writes."""
    adata = ad.read_h5ad(shards / "s_1.h5ad")
    pgs.tl.predict_phenotype(adata, model=model_folder)
    return adata


def test_predictions_in_a_new_file(polygene, shards, model_folder, predicted, tmp_path):
    out = tmp_path / "out.h5ad"
    before = (shards / "s_1.h5ad").read_bytes()
    said = polygene("predict", shards / "s_1.h5ad", "--model", model_folder, "-o", out).said
    assert "50 cells" in said
    found = ad.read_h5ad(out)
    pd.testing.assert_frame_equal(found.obs, predicted.obs)
    for name in ("cell_type", "sex"):
        pd.testing.assert_frame_equal(pgs.get.probabilities(found, name), pgs.get.probabilities(predicted, name))
    np.testing.assert_array_equal(found.X.toarray(), predicted.X.toarray())
    assert (shards / "s_1.h5ad").read_bytes() == before


def test_several_files_as_tables(polygene, shards, model_folder, predicted, tmp_path):
    flags = ["--model", model_folder, "-o", tmp_path / "out", "--format", "csv", "--phenotypes", "sex"]
    polygene("predict", f"{shards}/s_{{0..1}}.h5ad", *flags)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["s_0.csv", "s_1.csv"]
    table = pd.read_csv(tmp_path / "out" / "s_1.csv", index_col="cell")
    assert list(table) == ["polygene_sex", "polygene_sex_confidence"]
    assert list(table["polygene_sex"]) == list(predicted.obs["polygene_sex"])
    assert list(table.index) == list(predicted.obs_names)


def test_the_table_of_an_ordered_phenotype_has_expected_values(polygene, small, tmp_path):
    adata = pgs.datasets.simulate(90, 40)
    adata.obs["age"] = pd.Categorical(adata.obs["cell_type"].cat.codes.map({0: "20", 1: "30", 2: "50"}), ordered=True)
    pgs.tl.train(adata, phenotypes=["age", "sex"], save_to=tmp_path / "m", **small.arguments)
    pgs.tl.predict_phenotype(adata)
    adata.write_h5ad(tmp_path / "a.h5ad")
    polygene("predict", tmp_path / "a.h5ad", "--model", tmp_path / "m", "-o", tmp_path / "a.csv")
    table = pd.read_csv(tmp_path / "a.csv", index_col="cell")
    assert set(table) == {column for column in adata.obs if column.startswith("polygene_")}
    np.testing.assert_allclose(table["polygene_age_expected"], adata.obs["polygene_age_expected"], rtol=1e-5)


def test_the_table_of_cells_that_were_filled_before(polygene, shards, model_folder, tmp_path):
    common = ["--model", model_folder, "--phenotypes", "sex"]
    polygene("fill", shards / "s_1.h5ad", "-o", tmp_path / "a.h5ad", *common)
    polygene("fill", shards / "s_1.h5ad", "-o", tmp_path / "a.csv", *common)
    polygene("fill", tmp_path / "a.h5ad", "-o", tmp_path / "b.csv", *common)
    assert (tmp_path / "a.csv").read_text() == (tmp_path / "b.csv").read_text()
    assert list(pd.read_csv(tmp_path / "b.csv", index_col="cell")) == [
        "polygene_sex_filled",
        "polygene_sex_filled_probability",
    ]


def test_evidence_and_balance(polygene, shards, model_folder, tmp_path):
    adata = ad.read_h5ad(shards / "s_1.h5ad")
    pgs.tl.predict_phenotype(adata, model=model_folder, phenotypes="sex", given="cell_type", balance=0.0)
    flags = ["--given", "cell_type", "--balance", "0", "--phenotypes", "sex", "--batch-size", "7"]
    polygene("predict", shards / "s_1.h5ad", "--model", model_folder, "-o", tmp_path / "a.tsv", *flags)
    table = pd.read_csv(tmp_path / "a.tsv", sep="\t")
    np.testing.assert_allclose(table["polygene_sex_confidence"], adata.obs["polygene_sex_confidence"], rtol=1e-5)


@pytest.mark.filterwarnings("default:.*coverage")
def test_sets_and_unassigned_cells(polygene, shards, model_folder, tmp_path):
    adata = ad.read_h5ad(shards / "s_1.h5ad")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pgs.tl.predict_phenotype(adata, model=model_folder, phenotypes="sex", coverage=0.8, min_confidence=0.7)
    common = [shards / "s_1.h5ad", "--model", model_folder, "--phenotypes", "sex", "--coverage", "0.8"]
    common += ["--min-confidence", "0.7"]
    polygene("predict", *common, "-o", tmp_path / "a.csv")
    polygene("predict", *common, "-o", tmp_path / "a.h5ad")
    table = pd.read_csv(tmp_path / "a.csv", index_col="cell", keep_default_na=False)
    assert list(table) == ["polygene_sex", "polygene_sex_confidence", "polygene_sex_set"]
    assert list(table["polygene_sex"]) == list(adata.obs["polygene_sex"])
    sets = pgs.get.prediction_sets(adata, "sex")
    assert list(table["polygene_sex_set"]) == ["; ".join(found) for found in sets["categories"]]
    pd.testing.assert_frame_equal(pgs.get.prediction_sets(ad.read_h5ad(tmp_path / "a.h5ad"), "sex"), sets)


@pytest.mark.filterwarnings("default:Genes of these data were matched")
@pytest.mark.parametrize(
    ("command", "flags"),
    [
        ("predict", []),
        ("embed", ["--no-umap"]),
        ("novelty", []),
        ("fill", []),
        ("impute", []),
        ("counterfactual", ["--set", "sex=sex_1"]),
    ],
)
def test_genes_are_matched_by_a_column(polygene, shards, model_folder, command, flags, tmp_path):
    renamed = ad.read_h5ad(shards / "s_1.h5ad")
    renamed.var["symbol"] = renamed.var_names
    renamed.var_names = [f"row{i}" for i in range(renamed.n_vars)]
    renamed.write_h5ad(tmp_path / "renamed.h5ad")
    common = ["--model", model_folder, *flags]
    polygene(command, tmp_path / "renamed.h5ad", *common, "--gene-symbols", "symbol", "-o", tmp_path / "a.h5ad")
    polygene(command, shards / "s_1.h5ad", *common, "-o", tmp_path / "b.h5ad")
    one, other = (ad.read_h5ad(tmp_path / f"{name}.h5ad") for name in "ab")
    pd.testing.assert_frame_equal(one.obs, other.obs)
    for key in other.obsm:
        np.testing.assert_array_equal(one.obsm[key], other.obsm[key])
    np.testing.assert_array_equal(
        *(part.X if isinstance(part.X, np.ndarray) else part.X.toarray() for part in (one, other))
    )


def test_embedding(polygene, shards, model_folder, tmp_path):
    adata = ad.read_h5ad(shards / "s_1.h5ad")
    pgs.tl.embed(adata, model=model_folder, pooling="genes", umap=False)
    common = [shards / "s_1.h5ad", "--model", model_folder, "--pooling", "genes", "--no-umap"]
    polygene("embed", *common, "-o", tmp_path / "a.h5ad")
    polygene("embed", *common, "-o", tmp_path / "a.csv")
    np.testing.assert_array_equal(ad.read_h5ad(tmp_path / "a.h5ad").obsm["X_polygene"], adata.obsm["X_polygene"])
    table = pd.read_csv(tmp_path / "a.csv", index_col="cell")
    assert list(table) == [f"dim_{i}" for i in range(16)]
    np.testing.assert_allclose(table, adata.obsm["X_polygene"], rtol=1e-5)


@pytest.mark.slow
def test_embedding_with_umap(polygene, shards, model_folder, tmp_path):
    flags = ["--model", model_folder, "--n-neighbors", "5", "--seed", "1"]
    polygene("embed", shards / "s_2.h5ad", *flags, "-o", tmp_path / "a.h5ad")
    found = ad.read_h5ad(tmp_path / "a.h5ad")
    assert found.obsm["X_polygene_umap"].shape == (40, 2)
    assert "polygene_connectivities" in found.obsp


@pytest.mark.parametrize("command", ["predict", "embed"])
def test_the_input_is_not_overwritten(polygene, shards, model_folder, command):
    path = shards / "s_0.h5ad"
    said = polygene(command, path, "-m", model_folder, "-o", path, "--overwrite", code=2).said
    assert "is an input, which is never overwritten" in said


@pytest.mark.parametrize(
    ("flags", "match"),
    [
        (["nix.h5ad", "-m", "m", "-o", "a.h5ad"], "no file matches 'nix.h5ad'"),
        (["-m", "m", "-o", "a.h5ad"], "DATA: no files were passed. Pass h5ad files"),
        (["a.h5ad"], "--model and --output are required"),
    ],
    ids=["file", "no file", "nothing"],
)
def test_what_cannot_be(polygene, flags, match, tmp_path, monkeypatch):
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "model.json").touch()  # looks like a model; that it is none is found after the files are
    monkeypatch.chdir(tmp_path)
    assert match in polygene("predict", *flags, code=2).said


@pytest.mark.filterwarnings("default:Genes of these data were matched")
def test_sets_confidence_and_names_of_genes(polygene, shards, model_folder, tmp_path):
    adata = ad.read_h5ad(shards / "s_1.h5ad")
    pgs.tl.predict_phenotype(adata, model=model_folder, phenotypes="sex", coverage=0.8, min_confidence=0.7)
    other = ad.read_h5ad(shards / "s_1.h5ad")
    other.var["symbol"], other.var_names = other.var_names, [f"id{i}" for i in range(other.n_vars)]
    other.write_h5ad(tmp_path / "cells.h5ad")
    flags = ["--model", model_folder, "--phenotypes", "sex", "--coverage", "0.8", "--min-confidence", "0.7"]
    flags += ["--gene-symbols", "symbol"]
    polygene("predict", tmp_path / "cells.h5ad", *flags, "-o", tmp_path / "a.h5ad")
    polygene("predict", tmp_path / "cells.h5ad", *flags, "-o", tmp_path / "a.csv")
    found = ad.read_h5ad(tmp_path / "a.h5ad")
    pd.testing.assert_frame_equal(pgs.get.prediction_sets(found, "sex"), pgs.get.prediction_sets(adata, "sex"))
    assert list(found.obs["polygene_sex"]) == list(adata.obs["polygene_sex"])
    assert "unassigned" in set(found.obs["polygene_sex"])
    table = pd.read_csv(tmp_path / "a.csv", index_col="cell", keep_default_na=False)
    assert list(table) == ["polygene_sex", "polygene_sex_confidence", "polygene_sex_set"]
    assert list(table["polygene_sex_set"]) == [
        "; ".join(names) for names in pgs.get.prediction_sets(adata, "sex")["categories"]
    ]


def test_embedding_with_evidence(polygene, shards, model_folder, tmp_path):
    adata = ad.read_h5ad(shards / "s_1.h5ad")
    pgs.tl.embed(adata, model=model_folder, given="sex", umap=False)
    flags = ["--model", model_folder, "--given", "sex", "--no-umap"]
    polygene("embed", shards / "s_1.h5ad", *flags, "-o", tmp_path / "a.h5ad")
    np.testing.assert_array_equal(ad.read_h5ad(tmp_path / "a.h5ad").obsm["X_polygene"], adata.obsm["X_polygene"])
