"""What is taken from scvi-tools' private parts."""

import numpy as np
import pandas as pd
import pytest
import torch

from polygene_scverse import _compat
from polygene_scverse._compat import field_state, history_from_plain, plain, seeded, setup_args, torch_device
from polygene_scverse._constants import PHENOTYPE_FIELD
from polygene_scverse.datasets import simulate
from polygene_scverse.model import Polygene


@pytest.fixture(scope="module")
def model():
    adata = simulate(20, 10)
    Polygene.setup_anndata(adata, phenotype_keys=["sex"])
    return Polygene(adata, genes=["gene_1"], n_hidden=4, n_heads=2)


def test_registry_is_read_where_scvi_keeps_it(model):
    assert field_state(model.registry_, PHENOTYPE_FIELD)["categories"] == {"sex": ["sex_0", "sex_1"]}
    rest = {"layer": None, "use_raw": False, "ordered": None, "missing": None, "gene_symbols": None, "gene_ids": None}
    assert setup_args(model.registry_) == {"phenotype_keys": ["sex"], **rest}


def test_file_names_are_scvis(model, tmp_path):
    model.save(tmp_path / "model", save_anndata=True)
    assert (tmp_path / "model" / _compat.ADATA_FILE).is_file()


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
    torch.save(plain(value), tmp_path / "note.pt")
    found = torch.load(tmp_path / "note.pt", weights_only=True)
    assert found.keys() == value.keys()
    torch.testing.assert_close(found["t"], value["t"])
    assert (list(found["a"]), tuple(found["c"])) == ([0, 1, 2], (3, "d"))


def test_devices_are_scvis():
    assert torch_device("cpu", "auto") == torch.device("cpu")


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
