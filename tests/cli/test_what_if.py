"""`polygene impute`, `counterfactual`, `perturb`, `generate`, `novelty` and `fill`: files as from the verbs."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import polygene_scverse as pgs


@pytest.fixture
def cells(shards):
    return ad.read_h5ad(shards / "s_1.h5ad")


def test_imputed_genes(polygene, shards, model_folder, cells, tmp_path):
    before = (shards / "s_1.h5ad").read_bytes()
    names = list(pgs.model.Polygene.load(model_folder, adata=False).genes[:3])
    common = [shards / "s_1.h5ad", "-m", model_folder, "--only", ",".join(names)]
    said = polygene("impute", *common, "-o", tmp_path / "a.h5ad").said
    assert "50 cells x 3 genes: 0.00 GB" in said
    pgs.tl.impute(cells, model=model_folder, genes=names)
    found = ad.read_h5ad(tmp_path / "a.h5ad")
    assert list(found.var_names) == names
    np.testing.assert_array_equal(found.X, cells[:, names].layers["imputed"])
    pd.testing.assert_frame_equal(found.obs, cells.obs)
    assert (shards / "s_1.h5ad").read_bytes() == before
    polygene("impute", *common, "-o", tmp_path / "a.csv", "--no-log", "--keep", "0.5", "--given", "sex", "--seed", "3")
    pgs.tl.impute(cells, model=model_folder, genes=names, keep=0.5, given=["sex"], log=False, seed=3)
    table = pd.read_csv(tmp_path / "a.csv", index_col="cell")
    np.testing.assert_allclose(table[names], cells[:, names].layers["imputed"], rtol=1e-5)


@pytest.mark.filterwarnings("ignore:The genes of these data had")
@pytest.mark.filterwarnings("default:.*genes are unmeasured")
def test_unmeasured_genes_stand_beside_measured_ones(polygene, model_folder, cells, tmp_path):
    genes = pgs.model.Polygene.load(model_folder, adata=False).genes
    lost = genes[1]
    cells[:, cells.var_names != lost].copy().write_h5ad(tmp_path / "panel.h5ad")
    only = f"{genes[0]},{lost},{genes[2]}"
    flags = ["-m", model_folder, "--only", only, "-o", tmp_path / "a.zarr"]
    assert "Warning: " in polygene("impute", tmp_path / "panel.h5ad", *flags).said
    found = ad.read_zarr(tmp_path / "a.zarr")
    assert list(found.var_names) == only.split(",")
    assert np.isfinite(found.X).all()


@pytest.mark.filterwarnings("default:.*too few groups for a test")
def test_counterfactual_cells_and_table(polygene, shards, model_folder, cells, tmp_path):
    common = [shards / "s_1.h5ad", "-m", model_folder, "--set", "sex=sex_1"]
    polygene("counterfactual", *common, "-o", tmp_path / "a.h5ad")
    result = pgs.tl.counterfactual(cells, {"sex": "sex_1"}, model=model_folder)
    found = ad.read_h5ad(tmp_path / "a.h5ad")
    np.testing.assert_array_equal(found.X, result.X)
    np.testing.assert_array_equal(found.layers["unchanged"], result.layers["unchanged"])
    said = polygene(
        "counterfactual", *common, "-o", tmp_path / "a.tsv", "--groupby", "cell_type", "--group-key", "donor"
    ).said
    assert "Warning: --group-key: too few groups for a test" in said
    with pytest.warns(UserWarning, match="too few groups"):
        table = pgs.get.counterfactual(result, groupby="cell_type", group_key="donor")
    written = pd.read_csv(tmp_path / "a.tsv", sep="\t")
    assert list(written) == list(table)
    np.testing.assert_allclose(written["shift"], table["shift"], rtol=1e-5, atol=1e-9)


@pytest.mark.filterwarnings("default:.*fewer than 20 random")
def test_perturbed_genes(polygene, shards, model_folder, cells, tmp_path):
    a, b = cells.var_names[np.argsort(-np.asarray(cells.X.mean(0)).ravel())[:2]]
    genes = pgs.model.Polygene.load(model_folder, adata=False).genes
    assert {a, b} <= set(genes)
    common = [shards / "s_1.h5ad", "-m", model_folder, "--perturb", f"{a},{a}+{b}", "--n-null", "0"]
    polygene("perturb", *common, "--kind", "overexpress", "-o", tmp_path / "a.h5ad")
    result = pgs.tl.perturb(cells, [a, (a, b)], kind="overexpress", n_null=0, model=model_folder)
    np.testing.assert_array_equal(ad.read_h5ad(tmp_path / "a.h5ad").X, result.X)
    said = polygene("perturb", *common, "--outcome", "sex", "-o", tmp_path / "a.csv").said
    table = pd.read_csv(tmp_path / "a.csv")
    assert "too few for a test" in said
    assert set(table["level"]) == {"sex_0", "sex_1"}
    assert set(table["perturbation"]) == {a, f"{a}+{b}"}


def test_generated_cells(polygene, model_folder, tmp_path):
    flags = ["-m", model_folder, "--given", "sex=sex_1", "--n-obs", "7", "--seed", "4"]
    assert "7 cells" in polygene("generate", *flags, "-o", tmp_path / "a.h5ad").said
    expected = pgs.tl.generate({"sex": "sex_1"}, n_obs=7, model=model_folder, seed=4)
    found = ad.read_h5ad(tmp_path / "a.h5ad")
    np.testing.assert_array_equal(found.layers["counts"].toarray(), expected.layers["counts"].toarray())
    assert set(found.obs["sex"]) == {"sex_1"}
    assert "exists. Pass --overwrite" in polygene("generate", *flags, "-o", tmp_path / "a.h5ad", code=2).said
    polygene("generate", *flags, "-o", tmp_path / "a.h5ad", "--overwrite")


def test_novelty_and_filled_phenotypes(polygene, shards, model_folder, cells, tmp_path):
    common = [shards / "s_1.h5ad", "-m", model_folder]
    polygene("novelty", *common, "-o", tmp_path / "a.csv")
    pgs.tl.novelty(cells, model=model_folder)
    table = pd.read_csv(tmp_path / "a.csv", index_col="cell")
    np.testing.assert_allclose(table["polygene_novelty"], cells.obs["polygene_novelty"], rtol=1e-5)
    polygene("fill", *common, "-o", tmp_path / "a.h5ad", "--phenotypes", "sex")
    pgs.tl.fill_phenotype(cells, model=model_folder, phenotypes=["sex"])
    found = ad.read_h5ad(tmp_path / "a.h5ad").obs
    assert list(found["polygene_sex_filled"]) == list(cells.obs["polygene_sex_filled"])


CELLS = "{shards}/s_1.h5ad"


@pytest.mark.parametrize(
    ("flags", "match"),
    [
        (["impute", CELLS], "--model and --output are required"),
        (["impute", CELLS, "-m", "{model}", "-o", "{out}", "--only", "nope"], r"are not among the 40 genes"),
        (["impute", CELLS, "-m", "{model}", "-o", "{out}", "--keep", "1"], "--keep: found 1.0"),
        (["counterfactual", CELLS, "-m", "{model}", "-o", "{out}"], "--set is required"),
        (["counterfactual", CELLS, "-m", "{model}", "-o", "{out}", "--set", "sex"], "--set: found 'sex'. Write a"),
        (["counterfactual", CELLS, "-m", "{model}", "-o", "{out}", "--set", "sex=no"], "categories of 'sex' are"),
        (["counterfactual", CELLS, "-m", "{model}", "-o", "{out}", "--set", "age=old"], "found 'age', but it must be"),
        (
            ["counterfactual", CELLS, "-m", "{model}", "-o", "{out}", "--set", "sex=sex_1", "--group-key", "donor"],
            "--group-key: it has no effect, because out.h5ad is not a table",
        ),
        (["perturb", CELLS, "-m", "{model}", "-o", "{out}"], "--perturb is required"),
        (["perturb", CELLS, "-m", "{model}", "-o", "{out}", "--perturb", "a", "--outcome", "sex"], "--outcome: it has"),
        (["perturb", CELLS, "-m", "{model}", "-o", "{out}", "--perturb", "nope"], "are not among the 40 genes"),
        (["generate", "-m", "{model}", "-o", "{out}"], "--n-obs is required"),
        (["generate", "-m", "{model}", "-o", "a.csv", "--n-obs", "3"], "End the name with .h5ad or .zarr"),
        (["generate", "-m", "{model}", "-o", "{out}", "--n-obs", "0"], "--n-obs: found 0"),
        (["generate", "-m", "{model}", "-o", "{out}", "--n-obs", "3", "--given", "sex=a", "--given", "sex=b"], "twice"),
        (["audit", CELLS], "--output and --sample-key are required"),
        (["audit", CELLS, "-o", "{out}"], "--sample-key is required"),
        (["audit", CELLS, "-o", "{out}", "--sample-key", "donor"], "End the name with .csv or .tsv"),
        (["fill", CELLS, "-m", "{model}"], "--output is required"),
    ],
)
def test_what_cannot_be_leaves_nothing_behind(polygene, shards, model_folder, tmp_path, flags, match):
    places = {"shards": shards, "model": model_folder, "out": tmp_path / "out.h5ad"}
    assert match in polygene(*(flag.format(**places) for flag in flags), code=2).said
    assert not list(tmp_path.iterdir())


def test_evidence_and_responses(polygene, shards, model_folder, cells, tmp_path):
    path, genes = shards / "s_1.h5ad", pgs.model.Polygene.load(model_folder, adata=False).genes
    pgs.tl.fill_phenotype(cells, model=model_folder, phenotypes="sex", given=[])
    polygene("fill", path, "-m", model_folder, "--phenotypes", "sex", "--given", "cell_type", "-o", tmp_path / "a.h5ad")
    assert list(ad.read_h5ad(tmp_path / "a.h5ad").uns["polygene"]["fill"]["sex"]) == ["cell_type"]
    common = ["--perturb", genes[0], "--responses", ",".join(genes[3:5]), "--n-null", "2", "-m", model_folder]
    polygene("perturb", path, *common, "-o", tmp_path / "b.h5ad")
    assert list(ad.read_h5ad(tmp_path / "b.h5ad").var_names) == genes[3:5]
    said = polygene("perturb", path, "--perturb", "nope", "-m", model_folder, "-o", tmp_path / "c.h5ad", code=2).said
    assert "Error: --perturb: found ['nope']" in said
    said = polygene("impute", path, "--only", "nope", "-m", model_folder, "-o", tmp_path / "c.h5ad", code=2).said
    assert "Error: --only: found ['nope']" in said
