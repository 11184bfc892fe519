"""Files of simulated cells, a small trained model, and the command in this process."""

import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertForMaskedLM
from typer.testing import CliRunner

import polygene_scverse as pgs
from polygene_scverse._constants import RANK
from polygene_scverse._layout import SPECIAL_TOKENS
from polygene_scverse.cli import app
from polygene_scverse.datasets import simulate
from polygene_scverse.model.original._files import CATEGORY_FILES, ORIGINAL_COLUMNS

SMALL = {"n_hidden": 16, "n_layers": 1, "n_heads": 2, "n_intermediate": 16}
FLAGS = ["--max-epochs", "1", *(word for name, n in SMALL.items() for word in (f"--{name.replace('_', '-')}", str(n)))]


@pytest.fixture(scope="session")
def shards(tmp_path_factory):
    """Folder of three files with 60, 50 and 40 cells, written once; tests leave them as they are."""
    folder = tmp_path_factory.mktemp("shards")
    for i, n_obs in enumerate((60, 50, 40)):
        cells = simulate(150, 40, missing=0.1, effect=2.0)[50 * i : 50 * i + n_obs].copy()
        cells.obs_names = [f"file{i}_{name}" for name in cells.obs_names]
        cells.write_h5ad(folder / f"s_{i}.h5ad")
    return folder


@pytest.fixture(scope="session")
def model_folder(shards, tmp_path_factory):
    """Folder of a model trained on the first file."""
    folder = tmp_path_factory.mktemp("trained") / "model"
    cells = pgs.datasets.simulate(150, 40, missing=0.1, effect=2.0)
    pgs.tl.train(cells, max_epochs=2, verbose=False, save_to=folder, model_kwargs=SMALL)
    return folder


@pytest.fixture
def small():
    """Arguments that make a training short, for the command and for `pgs.tl.train`."""
    return SimpleNamespace(flags=FLAGS, arguments={"max_epochs": 1, "verbose": False, "model_kwargs": dict(SMALL)})


@pytest.fixture
def polygene():
    """Run the command: ``polygene("train", …)`` gives exit code, what was said, and the error without frames."""

    def run(*args, code=0):
        result = CliRunner().invoke(app, [str(arg) for arg in args])
        plain = " ".join(re.sub(r"\x1b\[[0-9;]*m|[│╭╮╰╯─]", " ", result.output).split())
        assert result.exit_code == code, plain
        return SimpleNamespace(code=result.exit_code, said=plain, out=result.stdout, error=result.exception)

    return run


@pytest.fixture(scope="session")
def theirs(tmp_path_factory):
    """A checkpoint of the original with random weights, 30 genes and 10 bins; its vocabulary; and cells for it."""
    folder = tmp_path_factory.mktemp("theirs")
    lists = {name: [f"{ORIGINAL_COLUMNS[name]}_{i}" for i in range(2)] for name in CATEGORY_FILES}
    words = [*SPECIAL_TOKENS, *(f"[no_{name}]" for name in lists), *(f"[{w}]" for ws in lists.values() for w in ws)]
    (folder / "vocab.txt").write_text("\n".join(words))
    for name, file in CATEGORY_FILES.items():
        (folder / file).write_text("\n".join(lists[name]))
    cells = simulate(40, 34, phenotypes=dict.fromkeys(ORIGINAL_COLUMNS.values(), 2))
    cells.var[RANK] = np.random.default_rng(0).permutation(34).astype(float)
    cells.write_h5ad(folder / "cells.h5ad")
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        bert = BertForMaskedLM(BertConfig(vocab_size=len(words) + 10, max_position_embeddings=38, **sizes))
    bert.save_pretrained(folder / "checkpoint")
    return SimpleNamespace(checkpoint=folder / "checkpoint", vocabulary=folder, cells=folder / "cells.h5ad")
