"""What is taken from scvi-tools' private parts, and what is not read from files."""

import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from polygene_scverse import _compat
from polygene_scverse._compat import check_plain_file, field_state, history_from_plain, plain, seeded, setup_args
from polygene_scverse._constants import PHENOTYPE_FIELD
from polygene_scverse.datasets import simulate
from polygene_scverse.model import Polygene


class Touch:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.fixture(scope="module")
def model():
    adata = simulate(20, 10)
    Polygene.setup_anndata(adata, phenotype_keys=["sex"])
    return Polygene(adata, genes=["gene_1"], n_hidden=4, n_heads=2)


def test_registry_is_read_where_scvi_keeps_it(model):
    assert field_state(model.registry_, PHENOTYPE_FIELD)["categories"] == {"sex": ["sex_0", "sex_1"]}
    rest = {"layer": None, "use_raw": False, "ordered": None, "missing": None}
    assert setup_args(model.registry_) == {"phenotype_keys": ["sex"], **rest}


def test_file_names_are_scvis(model, tmp_path):
    model.save(tmp_path / "model", save_anndata=True)
    assert {path.name for path in (tmp_path / "model").iterdir()} == {_compat.MODEL_FILE, _compat.ADATA_FILE}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.arange(3), [0, 1, 2]),
        (np.float32(0.5), 0.5),
        ({"a": np.array([True]), 2: (1, "b")}, {"a": [True], "2": [1, "b"]}),
        (pd.Index(["x", "y"]), ["x", "y"]),
        (pd.DataFrame({"loss": [0.5, 0.25]}, index=[0, 1]), {"index": [0, 1], "values": [0.5, 0.25]}),
        (None, None),
    ],
    ids=["array", "scalar", "nested", "index", "table", "none"],
)
def test_plain_values(value, expected):
    result = plain(value)
    assert result == expected
    assert type(result) is type(expected)


def test_a_history_is_the_same_after_a_round_trip():
    history = {"loss": pd.DataFrame({"loss": [0.5, 0.25]}, index=pd.Index([0, 1], name="epoch"))}
    pd.testing.assert_frame_equal(history_from_plain(plain(history))["loss"], history["loss"])


def test_tensors_stay_tensors():
    tensor = torch.ones(3)
    assert plain({"a": tensor})["a"] is tensor


def test_what_plain_returns_is_read_without_unpickling_code(tmp_path):
    value = {"a": np.arange(3), "b": pd.DataFrame({"x": [1.0]}), "c": (np.int64(3), "d"), "t": torch.ones(2)}
    torch.save(plain(value), tmp_path / "model.pt")
    check_plain_file(tmp_path / "model.pt")


def test_absent_file_is_refused(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"`dir_path`: there is no model.pt in .* Pass a folder written by save"
    ):
        check_plain_file(tmp_path / "model.pt")


@pytest.mark.parametrize(
    ("write", "read"),
    [
        (torch.save, lambda path: torch.load(path, weights_only=False)),
        (lambda x, path: path.write_bytes(pickle.dumps(x)), lambda path: pickle.loads(path.read_bytes())),
    ],
    ids=["torch", "pickle"],
)
def test_a_file_that_would_run_code_is_refused_and_runs_none(tmp_path, write, read):
    path, marker = tmp_path / "model.pt", tmp_path / "marker"
    write({"model_state_dict": {}, "attr_dict": Touch(marker)}, path)
    with pytest.raises(ValueError, match="holds more than tensors and plain values, or is damaged"):
        check_plain_file(path)
    assert not marker.exists()
    read(path)
    assert marker.exists()  # it would have


def test_a_damaged_file_is_refused(tmp_path):
    (tmp_path / "model.pt").write_bytes(b"not a model")
    with pytest.raises(ValueError, match="or is damaged"):
        check_plain_file(tmp_path / "model.pt")


def test_seeded_gives_the_state_back():
    before = torch.get_rng_state()
    with seeded(5):
        a = torch.rand(3)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(a, torch.rand(3, generator=torch.Generator().manual_seed(5)))


def test_seeded_gives_the_state_back_after_an_error():
    before = torch.get_rng_state()
    with pytest.raises(RuntimeError, match="on purpose"), seeded(5):
        raise RuntimeError("on purpose")
    assert torch.equal(torch.get_rng_state(), before)
