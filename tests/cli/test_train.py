"""`polygene train`: the same model as `pgs.tl.train`, and everything beside it."""

import os
import signal
import subprocess
import sys
import time

import anndata as ad
import pandas as pd
import pytest
import torch

import polygene_scverse as pgs
from polygene_scverse.cli._train import is_first_process


def same(folder, model):
    found = pgs.model.Polygene.load(folder, adata=False)
    expected = model.module.state_dict()
    assert found.genes == model.genes
    assert found.edges_ == model.edges_
    return all(torch.equal(value, expected[name]) for name, value in found.module.state_dict().items())


def test_one_file_gives_the_model_of_the_verb(polygene, shards, small, tmp_path):
    flags = ["--seed", "3", "--group-key", "donor", "--n-genes", "30", "--phenotypes", "cell_type,sex"]
    said = polygene("train", shards / "s_0.h5ad", "--output", tmp_path / "m", *small.flags, *flags).said
    arguments = {"seed": 3, "group_key": "donor", "n_genes": 30, "phenotypes": ["cell_type", "sex"]}
    model = pgs.tl.train(ad.read_h5ad(shards / "s_0.h5ad"), **small.arguments, **arguments)
    assert same(tmp_path / "m", model)
    history = pd.read_csv(tmp_path / "m" / "history.csv", index_col="epoch")
    for name in ("train_loss", "validation_loss", "sex_accuracy_validation"):
        assert history[name].iloc[-1] == pytest.approx(model.history_[name].iloc[-1, 0])
    assert f"train_loss: {history['train_loss'].iloc[-1]:.4g}" in said
    assert "training cells" in said
    assert os.fspath(tmp_path / "m").split("/")[-1] in said


def test_shards_give_the_model_of_the_verb(polygene, shards, small, tmp_path):
    pattern = f"{shards}/s_{{0..1}}.h5ad"
    polygene("train", pattern, "-o", tmp_path / "m", *small.flags, "--seed", "1", "--quiet")
    assert same(tmp_path / "m", pgs.tl.train(pattern, seed=1, **small.arguments))


def test_the_originals_flags_and_its_held_out_shard(polygene, shards, small, tmp_path):
    flags = ["--train_data_path", f"file://{shards}/s_{{0..1}}.h5ad", "--eval_data_path", f"{shards}/s_2.h5ad"]
    flags += ["--model_name", "bert", "--sequence_types", "sex", "cell_type", "--n_epochs", "1", "--shard_size", "1000"]
    flags += ["--train_batch_size", "9", "--eval_batch_size", "8", "--learning_rate", "2e-3", "--hidden_size", "16"]
    flags += ["--num_hidden_layers", "1", "--num_attention_heads", "2", "--n_highly_variable_genes", "30"]
    flags += ["--max_length", "38", "--threshold", "0.1", "--expression_max_value", "10.0", "--num_bins", "10"]
    flags += ["--expression_min_value", "0.0", "--mlm_probability", "0.15", "--phenotypic_mlm_probability", "0.5"]
    flags += ["--device", "cpu", "--output_dir", tmp_path / "m", "--save_steps", "0.5"]
    polygene("train", *flags, "--n-intermediate", "16", "--quiet")
    model = pgs.tl.train(
        [shards / f"s_{i}.h5ad" for i in range(3)],
        phenotypes=["sex", "cell_type"],
        split=(range(110), range(110, 150)),
        max_epochs=1,
        n_genes=30,
        batch_size=9,
        plan_kwargs={"lr": 2e-3},
        masking={"expressed": 0.15, "hide_each": 0.5},
        buffer_cells=1000,
        accelerator="cpu",
        model_kwargs={**small.arguments["model_kwargs"], "binning": [0, *torch.linspace(0.1, 10, 9).tolist()]},
        verbose=False,
    )
    loaded = pgs.model.Polygene.load(tmp_path / "m", adata=False)
    assert loaded.edges_ == pytest.approx(model.edges_)
    assert loaded.history_["train_loss"].iloc[-1, 0] == pytest.approx(
        model.history_["train_loss"].iloc[-1, 0], rel=1e-4
    )
    assert (tmp_path / "m" / "checkpoints" / "last.ckpt").is_file()
    scores = pd.read_csv(tmp_path / "m" / "held_out" / "scores.csv")
    held_out = ad.read_h5ad(shards / "s_2.h5ad")
    expected = pgs.tl.score_tokens(held_out, model=tmp_path / "m")
    assert scores["accuracy"].tolist() == pytest.approx(expected["accuracy"].tolist())


def test_a_config_file_and_the_command_line(polygene, shards, small, tmp_path):
    lines = ["max_epochs: 2", "n_hidden: 16", "n_layers: 1", "n_heads: 2", "n_intermediate: 16", "phenotypes: sex"]
    (tmp_path / "config.yaml").write_text("\n".join([*lines, f"paths: ['{shards}/s_0.h5ad']"]))
    polygene("train", "--config", tmp_path / "config.yaml", "--max-epochs", "1", "-o", tmp_path / "m", "--quiet")
    model = pgs.tl.train(ad.read_h5ad(shards / "s_0.h5ad"), phenotypes="sex", **small.arguments)
    assert same(tmp_path / "m", model)


@pytest.mark.parametrize("logger", ["csv", "tensorboard"])
def test_logs_only_where_asked(polygene, shards, small, tmp_path, monkeypatch, logger):
    if logger == "tensorboard":
        pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    monkeypatch.chdir(tmp_path)
    common = [shards / "s_0.h5ad", *small.flags, "--quiet"]
    polygene("train", *common, "-o", "plain")
    polygene("train", *common, "-o", "logged", "--logger", logger, "--log-dir", "logs", "--project", "p")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["logged", "logs", "plain"]
    assert any((tmp_path / "logs" / "p" / "version_0").iterdir())
    assert same("plain", pgs.model.Polygene.load("logged", adata=False))
    histories = [pd.read_csv(tmp_path / name / "history.csv") for name in ("plain", "logged")]
    pd.testing.assert_frame_equal(*histories)


def test_it_goes_on_where_it_was(polygene, shards, small, tmp_path):
    common = [shards / "s_0.h5ad", *small.flags[2:], "--max-epochs", "3", "--quiet"]
    polygene("train", *common, "-o", tmp_path / "m", "--save-epochs", "1")
    said = polygene("train", *common, "-o", tmp_path / "m", "--save-epochs", "1", code=2).said
    assert "is not empty. Pass --overwrite" in said
    plain = pgs.model.Polygene.load(tmp_path / "m", adata=False)
    (tmp_path / "m" / "model.json").unlink()  # as if it had been interrupted before the end
    polygene("train", *common, "-o", tmp_path / "m", "--resume")
    assert same(tmp_path / "m", plain)
    polygene("train", *common, "-o", tmp_path / "m", "--save-epochs", "1", "--overwrite")
    assert same(tmp_path / "m", plain)


def test_the_vocabulary_of_the_original(polygene, theirs, tmp_path):
    flags = ["--vocabulary", theirs.vocabulary, "--max-epochs", "1", "--n-hidden", "8", "--n-layers", "1"]
    cells = ad.read_h5ad(theirs.cells)
    polygene("train", theirs.cells, *flags, "--sequence_types", "sex", "age", "-o", tmp_path / "m", "--quiet")
    assert list(pgs.model.Polygene.load(tmp_path / "m", adata=False).categories) == ["sex", "development_stage"]
    cells.obs["cell_type"] = ["martian", *cells.obs["cell_type"].astype(str)[1:]]
    cells.write_h5ad(tmp_path / "bad.h5ad")
    said = polygene("train", tmp_path / "bad.h5ad", *flags, "-o", tmp_path / "n", code=2).said
    assert "--vocabulary: ['martian'] of obs['cell_type'] in" in said
    flags += ["--missing", "martian"]
    polygene("train", tmp_path / "bad.h5ad", *flags, "-o", tmp_path / "n", "--quiet")
    assert "martian" not in pgs.model.Polygene.load(tmp_path / "n", adata=False).categories["cell_type"]


MISTAKES = {
    "no cells": (["-o", "m"], "DATA: no files were passed. Pass h5ad files"),
    "no output": (["{shards}/s_0.h5ad"], "--output is required"),
    "no column": (
        ["{shards}/s_0.h5ad", "-o", "m", "--phenotypes", "celltype"],
        "--phenotypes: ['celltype'] are not columns",
    ),
    "no number": (["{shards}/s_0.h5ad", "-o", "m", "--lr", "high"], "Invalid value for '--lr'"),
    "no option": (["{shards}/s_0.h5ad", "-o", "m", "--learn"], "No such option: --learn"),
    "heads": (["{shards}/s_0.h5ad", "-o", "m", "--n-hidden", "64", "--n-heads", "12"], "12"),
    "wandb": (["{shards}/s_0.h5ad", "-o", "m", "--logger", "wandb"], "Run: pip install wandb"),
    "vocabulary": (["{shards}/s_0.h5ad", "-o", "m", "--vocabulary", "nix"], "nix"),
}


@pytest.mark.parametrize(("flags", "match"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes_are_named(polygene, shards, tmp_path, monkeypatch, flags, match):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("polygene_scverse.cli._loggers.find_spec", lambda name: None)
    said = polygene("train", *(flag.format(shards=shards) for flag in flags), code=2).said
    assert match in said
    assert "Traceback" not in said


def test_debug_shows_where(polygene, shards, tmp_path):
    with pytest.raises(KeyError, match="celltype"):
        raise polygene(
            "train", shards / "s_0.h5ad", "-o", tmp_path, "--phenotypes", "celltype", "--debug", code=1
        ).error


@pytest.mark.parametrize(
    ("environment", "first"),
    [
        ({}, True),
        ({"SLURM_PROCID": "0"}, True),
        ({"SLURM_PROCID": "1"}, False),
        ({"RANK": "0", "SLURM_PROCID": "1"}, True),
    ],
    ids=["alone", "first of SLURM", "second of SLURM", "torchrun inside of SLURM"],
)
def test_one_process_speaks(monkeypatch, environment, first):
    for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert is_first_process() is first


@pytest.mark.slow
def test_inside_of_slurm_and_without_a_terminal(shards, small, tmp_path):
    slurm = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "1", "SLURM_JOB_NAME": "train", "SLURM_PROCID": "0"}
    slurm |= {"SLURM_LOCALID": "0", "SLURM_NODEID": "0", "SLURM_JOB_NODELIST": "here", "SLURM_NTASKS_PER_NODE": "1"}
    code = "from polygene_scverse.cli import app; app()"
    command = [sys.executable, "-c", code, "train", str(shards / "s_0.h5ad"), "-o", str(tmp_path / "m"), *small.flags]
    environment = {key: value for key, value in os.environ.items() if key != "DISPLAY"} | slurm
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "Epoch" not in result.stdout
    assert "\x1b[" not in result.stdout
    assert (tmp_path / "m" / "model.json").is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


@pytest.mark.slow
@pytest.mark.parametrize(("stop", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)], ids=["SIGTERM", "SIGINT"])
def test_what_is_stopped_says_so_and_leaves_a_checkpoint(shards, small, tmp_path, stop, code):
    run = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # shells may ignore it
    run += "from polygene_scverse.cli import app; app()"
    flags = [*small.flags[2:], "--max-epochs", "100000", "--save-epochs", "1", "--quiet"]
    command = [sys.executable, "-c", run, "train", str(shards / "s_0.h5ad"), "-o", str(tmp_path / "m"), *flags]
    checkpoint = tmp_path / "m" / "checkpoints" / "last.ckpt"
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        for _ in range(1200):
            if checkpoint.is_file() or process.poll() is not None:
                break
            time.sleep(0.1)
        process.send_signal(stop)
        said = process.communicate(timeout=120)[1]
    assert process.returncode == code, said
    assert checkpoint.is_file()
    assert "Traceback" not in said


def test_a_model_is_trained_further(polygene, shards, model_folder, tmp_path):
    path = tmp_path / "cells.h5ad"
    cells = ad.read_h5ad(shards / "s_1.h5ad")
    cells.obs["sex"] = cells.obs["sex"].astype(object).where(cells.obs["donor"] != "donor_0", "other")
    cells.write_h5ad(path)
    flags = ["--max-epochs", "1", "--quiet", "--model", model_folder]
    polygene("train", path, *flags, "-o", tmp_path / "model")
    found = pgs.model.Polygene.load(tmp_path / "model", adata=False)
    old = pgs.model.Polygene.load(model_folder, adata=False)
    assert found.genes[: len(old.genes)] == old.genes
    assert list(found.categories) == list(old.categories)
    said = polygene("train", path, *flags, "--n-bins", "5", "-o", tmp_path / "other", code=2).said
    assert "passed together with --model, which determines it" in said
