"""`polygene evaluate`: the tables are those of the verb."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import polygene_scverse as pgs


@pytest.fixture
def cells(shards):
    return ad.read_h5ad(shards / "s_2.h5ad")


def test_scores_matrices_and_figures(polygene, shards, model_folder, cells, tmp_path):
    said = polygene("evaluate", shards / "s_2.h5ad", "--model", model_folder, "--output", tmp_path / "out").said
    expected = pgs.tl.score_tokens(cells, model=model_folder)
    found = pd.read_csv(
        tmp_path / "out" / "scores.csv", keep_default_na=False, na_values={"zero_offset": [""], "nll": [""]}
    )
    pd.testing.assert_frame_equal(found, expected, check_dtype=False)
    assert f"{expected['accuracy'].iloc[0]:.4f}" in said
    for name, phenotype in (("genes", None), ("phenotype_cell_type", "cell_type"), ("phenotype_sex", "sex")):
        matrix = pd.read_csv(tmp_path / "out" / f"confusion_{name}.csv", index_col=0)
        np.testing.assert_array_equal(matrix, pgs.get.token_confusion(cells, phenotype))
        assert list(matrix.index) == list(matrix.columns)
        assert (tmp_path / "out" / f"confusion_{name}.png").stat().st_size > 5_000


def test_the_originals_flags(polygene, shards, model_folder, cells, tmp_path):
    flags = ["--model_name", model_folder, "--eval_data_path", f"file://{shards}/s_2.h5ad", "--eval_batch_size", "8"]
    flags += ["--output_dir", tmp_path / "out", "--mlm_probability", "0.3", "--phenotypic_mlm_probability", "0.6"]
    flags += ["--num_bins", "10", "--hidden_size", "64", "--sequence_types", "sex", "cell_type", "--device", "cpu"]
    said = polygene("evaluate", *flags).said
    assert "ignored, as the saved model determines them: --hidden_size, --num_bins" in said
    rates = {"expressed": 0.3, "not_expressed": 0.3, "hide_each": 0.6, "hide_all": 0.0, "gene_dropout": 0.0}
    expected = pgs.tl.score_tokens(cells, model=model_folder, masking={**rates, "max_genes": 1_000_000})
    found = pd.read_csv(tmp_path / "out" / "scores.csv")
    np.testing.assert_allclose(found["accuracy"], expected["accuracy"])
    assert list(found["n"]) == list(expected["n"])


def test_shown_phenotypes_and_hidden_genes(polygene, shards, model_folder, cells, tmp_path):
    flags = ["--model", model_folder, "--no-figures", "--given", "sex", "--hidden-share", "0.75"]
    said = polygene("evaluate", shards / "s_2.h5ad", *flags, "--output", tmp_path / "out").said
    expected = pgs.tl.score_tokens(cells, model=model_folder, given="sex", hidden_share=0.75)
    found = pd.read_csv(tmp_path / "out" / "scores.csv")
    np.testing.assert_allclose(found["nll"], expected["nll"])
    assert f"{expected['nll'].iloc[1]:.4f}" in said
    written = {path.name for path in (tmp_path / "out").glob("confusion_*")}
    assert written == {"confusion_genes.csv", "confusion_phenotype_cell_type.csv"}  # sex is hidden in no cell


def test_several_files_are_scored_together(polygene, shards, model_folder, tmp_path):
    flags = ["--model", model_folder, "--masking", "original", "--no-figures", "--phenotypes", "sex", "--balance", "0"]
    polygene("evaluate", f"{shards}/s_{{0..2}}.h5ad", *flags, "--seed", "3", "--output", tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "confusion_genes.csv",
        "confusion_phenotype_sex.csv",
        "scores.csv",
    ]
    total = 0
    for i in range(3):
        one = ad.read_h5ad(shards / f"s_{i}.h5ad")
        pgs.tl.score_tokens(one, model=model_folder, masking="original", balance=0.0, seed=3)
        total = total + pgs.get.token_confusion(one).to_numpy()
    np.testing.assert_array_equal(pd.read_csv(tmp_path / "out" / "confusion_genes.csv", index_col=0), total)


def test_scores_in_a_log(polygene, shards, model_folder, tmp_path):
    flags = [
        "--model",
        model_folder,
        "--no-figures",
        "--logger",
        "csv",
        "--log-dir",
        tmp_path / "logs",
        "--project",
        "p",
    ]
    polygene("evaluate", shards / "s_2.h5ad", *flags, "--output", tmp_path / "out")
    log = pd.read_csv(tmp_path / "logs" / "p" / "version_0" / "metrics.csv")
    scores = pd.read_csv(tmp_path / "out" / "scores.csv")
    assert log["all_accuracy"].item() == pytest.approx(scores["accuracy"].iloc[0])
    assert log["phenotypes_transformer_sex_f1"].item() == pytest.approx(
        scores.set_index("of")["f1"]["transformer, sex"]
    )
    assert log["genes_nll"].item() == pytest.approx(scores["nll"].iloc[1])
    assert "genes_not_expressed_recall" in log


def test_a_checkpoint_of_the_original(polygene, theirs, tmp_path):
    flags = ["--model_name", theirs.checkpoint, "--phenotypic_tokens_file", theirs.vocabulary, "--threshold", "0.1"]
    said = polygene("evaluate", theirs.cells, *flags, "--no-figures", "-o", tmp_path / "out").said
    assert "The weights are from the original, whose attention mask reveals" in said
    assert pd.read_csv(tmp_path / "out" / "scores.csv")["n"].iloc[0] > 100


@pytest.mark.parametrize(
    ("flags", "match"),
    [
        (["--phenotypes", "age"], "--phenotypes: ['age'] are not phenotypes of the model"),
        (["--given", "age"], "--given: ['age'] are not phenotypes of the model"),
        (["--hidden-share", "2"], "--hidden-share: found 2.0"),
        (["--masking", "theirs"], "--masking: found 'theirs'"),
        (["--masking", "theirs", "--mask-genes", "0.1"], "--masking: found 'theirs'"),
        (["--mask-genes", "2"], "--mask-genes: found 2.0, but it must be from 0 to 1."),
        (["--logger", "mlflow"], "--logger: found 'mlflow'"),
    ],
    ids=["phenotype", "given", "share", "masking", "masking with a rate", "rate", "logger"],
)
def test_what_cannot_be(polygene, shards, model_folder, tmp_path, flags, match):
    common = ["--model", model_folder, "--no-figures", "-o", tmp_path / "out"]
    assert match in polygene("evaluate", shards / "s_2.h5ad", *common, *flags, code=2).said


def test_a_folder_with_something_in_it(polygene, shards, model_folder, tmp_path):
    (tmp_path / "mine").touch()
    flags = ["--model", model_folder, "--no-figures", "-o", tmp_path]
    assert "is not empty. Pass --overwrite" in polygene("evaluate", shards / "s_2.h5ad", *flags, code=2).said
    polygene("evaluate", shards / "s_2.h5ad", *flags, "--overwrite")
    assert (tmp_path / "mine").exists()
