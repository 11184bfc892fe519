"""Sizes that a checkpoint declares and its weights have not are refused before a network is made."""

import json
import time

import pytest

from polygene_scverse.model import Polygene


@pytest.mark.parametrize("weights", ["model.safetensors", "pytorch_model.bin"])
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("num_hidden_layers", 100_000),
        ("num_hidden_layers", 3),
        ("hidden_size", 10**9),
        ("intermediate_size", 10**9),
        ("num_attention_heads", 0),
        ("hidden_size", "16"),
    ],
)
def test_declared_sizes_are_checked_first(trained, tmp_path, weights, key, value):
    import safetensors.torch
    import torch

    trained(model_kwargs={"gene_decoder": False}).to_original(tmp_path / "m", drop_linear_path=True)
    if weights != "model.safetensors":
        path = tmp_path / "m" / "model.safetensors"
        torch.save(safetensors.torch.load_file(path), tmp_path / "m" / weights)
        path.unlink()
    Polygene.from_original(tmp_path / "m")
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    (tmp_path / "m" / "config.json").write_text(json.dumps({**config, key: value}))
    start = time.monotonic()
    with pytest.raises(ValueError, match="`folder`: "):
        Polygene.from_original(tmp_path / "m")
    assert time.monotonic() - start < 2
