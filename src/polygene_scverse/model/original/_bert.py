"""Files of Hugging Face's BERT with a masked-language head: sizes and weights, read and written."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from polygene_scverse._layout import TokenLayout
from polygene_scverse._validate import shorten
from polygene_scverse.model._folder_checks import implied_weights
from polygene_scverse.module import PolygeneModule, TransformerConfig

CONFIG_FILE, WEIGHTS_FILE, PICKLED_FILE = "config.json", "model.safetensors", "pytorch_model.bin"

SIZES: Final = {
    "n_hidden": "hidden_size",
    "n_layers": "num_hidden_layers",
    "n_heads": "num_attention_heads",
    "n_intermediate": "intermediate_size",
}
RATES: Final = {
    "dropout": ("hidden_dropout_prob", 0.1),
    "layer_norm_eps": ("layer_norm_eps", 1e-12),
    "init_std": ("initializer_range", 0.02),
}
"""Names of dropout rates here and in BERT, and BERT's defaults."""

SAME: Final = {
    "model_type": "bert",
    "hidden_act": "gelu",
    "position_embedding_type": "absolute",
    "is_decoder": False,
    "add_cross_attention": False,
}
"""Settings of BERT that this network supports with one value only."""

NAMES: Final = {
    "encoder.embeddings.word": "bert.embeddings.word_embeddings",
    "encoder.embeddings.position": "bert.embeddings.position_embeddings",
    "encoder.embeddings.norm": "bert.embeddings.LayerNorm",
    "head.dense": "cls.predictions.transform.dense",
    "head.norm": "cls.predictions.transform.LayerNorm",
    "head": "cls.predictions",
}
BLOCK_NAMES: Final = {
    "attention.query": "attention.self.query",
    "attention.key": "attention.self.key",
    "attention.value": "attention.self.value",
    "attention.out": "attention.output.dense",
    "norm1": "attention.output.LayerNorm",
    "up": "intermediate.dense",
    "down": "output.dense",
    "norm2": "output.LayerNorm",
}
"""Names of weights here and in BERT, without ``.weight`` and ``.bias``."""

TOKEN_TYPE: Final = "bert.embeddings.token_type_embeddings.weight"
TIED: Final = {
    "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
    "cls.predictions.decoder.bias": "cls.predictions.bias",
}
"""Tied copies that may be in the file, and the weights that they must equal."""
BUFFERS: Final = ("bert.embeddings.position_ids", "bert.embeddings.token_type_ids")
"""Index buffers that older versions wrote; they carry no information."""


def weight_names(module: PolygeneModule) -> dict[str, str]:
    """BERT name of each weight of the network; the linear path and the gene decoder have none."""
    ours = [name for name, _ in module.named_parameters() if not name.startswith("gene_decoder.")]
    return their_names(ours, module.config.n_layers)


def their_names(ours: Iterable[str], n_layers: int) -> dict[str, str]:
    """BERT names of some weights of this network."""
    names = dict(NAMES)
    for i in range(n_layers):
        names |= {f"encoder.blocks.{i}.{name}": f"bert.encoder.layer.{i}.{b}" for name, b in BLOCK_NAMES.items()}
    parts = [(name, *name.rsplit(".", 1)) for name in ours]
    return {name: f"{names[owner]}.{kind}" for name, owner, kind in parts}


def check_sizes(folder: Path, layout: TokenLayout, sizes: Mapping[str, Any]) -> None:
    """Check that the weights have the configured sizes, before a network of these sizes is created.

    Parameters
    ----------
    folder
        Folder of the checkpoint.
    layout
        Token layout with slots and vocabulary.
    sizes
        As in `network_sizes`.

    Raises
    ------
    FileNotFoundError
        If there are no weights.
    ValueError
        If a weight is missing, unknown, or has another shape.
    """
    found = _shapes_of(folder)
    for name in SIZES:
        if not isinstance(sizes[name], int) or isinstance(sizes[name], bool) or sizes[name] < (name != "n_layers"):
            raise ValueError(
                f"`folder`: {CONFIG_FILE} says {SIZES[name]}={sizes[name]!r}, but it must be a whole number above 0. "
                "Pass the folder of a checkpoint as it was written."
            )
    config = TransformerConfig(**sizes)
    if config.n_layers > len(found):
        raise ValueError(
            f"`folder`: {CONFIG_FILE} says {SIZES['n_layers']}={config.n_layers:,}, but there are only {len(found)} "
            "weights. Pass a folder whose files were written together."
        )
    weights = implied_weights(layout, config, linear_path=False, gene_decoder=False)
    names = their_names(weights, config.n_layers)
    shapes = {names[ours]: tuple(weight.shape) for ours, weight in weights.items()}
    _check_shapes(found, shapes, config.n_hidden)


def _shapes_of(folder: Path) -> dict[str, tuple[int, ...]]:
    """Shape of each weight of a checkpoint; for safetensors without reading the weights."""
    path = folder / WEIGHTS_FILE
    if not path.is_file():
        return {name: tuple(tensor.shape) for name, tensor in read_weights(folder).items()}
    try:
        with safetensors.safe_open(path, "pt") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except Exception as error:
        raise ValueError(
            f"`folder`: {path} is damaged, or holds more than tensors ({error}). Pass another checkpoint."
        ) from error


def read_config(folder: Path) -> dict[str, Any]:
    """Read ``config.json`` and check that the network supports it.

    Raises
    ------
    FileNotFoundError
        If it does not exist.
    ValueError
        If it is not a configuration of a supported BERT.
    """
    path = folder / CONFIG_FILE
    if not path.is_file():
        raise FileNotFoundError(
            f"`folder`: there is no {CONFIG_FILE} in {folder}. Pass the folder of a checkpoint, which contains it and "
            f"{WEIGHTS_FILE} or {PICKLED_FILE}."
        )
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"`folder`: {path} is not JSON ({error}). Pass the folder of a checkpoint.") from error
    absent = [key for key in (*SIZES.values(), "vocab_size", "max_position_embeddings") if key not in config]
    if absent:
        raise ValueError(f"`folder`: {path} has no entries {absent}. Pass the folder of a BERT checkpoint.")
    other = {key: config[key] for key, value in SAME.items() if config.get(key, value) != value}
    if other:
        raise ValueError(
            f"`folder`: {path} says {other}, but only { ({key: SAME[key] for key in other}) } is supported. Pass a "
            "checkpoint of the original Polygene."
        )
    return config


def network_sizes(config: Mapping[str, Any]) -> dict[str, Any]:
    """Values for `TransformerConfig`."""
    sizes = {ours: config[theirs] for ours, theirs in SIZES.items()}
    return sizes | {ours: config.get(theirs, default) for ours, (theirs, default) in RATES.items()}


def make_config(n_tokens: int, length: int, sizes: TransformerConfig) -> dict[str, Any]:
    """Content of ``config.json``; attention has no dropout in this network."""
    plain = sizes.to_dict()
    config = {"architectures": ["BertForMaskedLM"], "vocab_size": n_tokens, "max_position_embeddings": length} | SAME
    config |= {theirs: plain[ours] for ours, theirs in SIZES.items()}
    config |= {theirs: plain[ours] for ours, (theirs, _) in RATES.items()}
    rest = {"attention_probs_dropout_prob": 0.0, "type_vocab_size": 2, "pad_token_id": 0, "tie_word_embeddings": True}
    return config | rest


def read_weights(folder: Path) -> dict[str, Tensor]:
    """Read ``model.safetensors``, else ``pytorch_model.bin``, without unpickling code.

    Raises
    ------
    FileNotFoundError
        If neither exists.
    ValueError
        If the file cannot be read, or contains anything but tensors.
    """
    path = next((folder / name for name in (WEIGHTS_FILE, PICKLED_FILE) if (folder / name).is_file()), None)
    if path is None:
        raise FileNotFoundError(
            f"`folder`: there is neither {WEIGHTS_FILE} nor {PICKLED_FILE} in {folder}. Pass the folder of a "
            "checkpoint."
        )
    try:
        if path.name == WEIGHTS_FILE:
            return safetensors.torch.load_file(path)
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(
            f"`folder`: {path} is damaged, or holds more than tensors, and reading it could execute arbitrary code. "
            "Pass a checkpoint that save_pretrained() wrote."
        ) from error
    if not isinstance(tensors, Mapping) or not all(isinstance(value, Tensor) for value in tensors.values()):
        raise ValueError(f"`folder`: {path} contains more than named tensors. Pass the weights only.")
    return dict(tensors)


def import_weights(module: PolygeneModule, tensors: Mapping[str, Tensor]) -> None:
    """Load weights. The first token type, the only one in use, is added to the position embeddings.

    Raises
    ------
    ValueError
        If a weight is missing, unknown, or has another shape, or if the head is not tied to the word embeddings.
    """
    names = weight_names(module)
    own = module.state_dict()
    shapes = {theirs: tuple(own[ours].shape) for ours, theirs in names.items()}
    _check_shapes({name: tuple(tensor.shape) for name, tensor in tensors.items()}, shapes, module.config.n_hidden)
    untied = [a for a, b in TIED.items() if a in tensors and not torch.equal(tensors[a], tensors[b])]
    if untied:
        raise ValueError(
            f"`folder`: {untied} differ from {[TIED[name] for name in untied]}, but the head of this model is tied to "
            "the token embeddings. Pass a checkpoint with tied word embeddings."
        )
    state = {ours: tensors[theirs].float() for ours, theirs in names.items()}
    state["encoder.embeddings.position.weight"] = state["encoder.embeddings.position.weight"] + tensors[TOKEN_TYPE][0]
    module.load_state_dict(own | state)


def _check_shapes(found: Mapping[str, tuple[int, ...]], shapes: Mapping[str, tuple[int, ...]], n_hidden: int) -> None:
    """Raise an error that lists all missing, unknown or misshapen entries; only row 0 of the token types is used."""
    n_types = max([1, *found.get(TOKEN_TYPE, ())[:1]])
    shapes = {**shapes, TOKEN_TYPE: (n_types, n_hidden)}
    problems = {
        "missing": [name for name in shapes if name not in found],
        "not known": [name for name in found if name not in {*shapes, *TIED, *BUFFERS}],
        "of another shape": [
            f"{name}: {found[name]} instead of {shape}"
            for name, shape in shapes.items()
            if name in found and found[name] != shape
        ],
    }
    lines = [f"{kind}: {shorten(names)}" for kind, names in problems.items() if names]
    if lines:
        raise ValueError(
            f"`folder`: the weights are not those that {CONFIG_FILE} describes. {'; '.join(lines)}. Pass a checkpoint "
            "of the original's GeneBertForMaskedLM (Hugging Face BERT with a masked-language head)."
        )


def write_weights(module: PolygeneModule, path: Path) -> None:
    """Write ``model.safetensors``; token types are zero, as the position embeddings include them."""
    own = module.state_dict()
    tensors = {theirs: own[ours].detach().cpu().contiguous() for ours, theirs in weight_names(module).items()}
    tensors[TOKEN_TYPE] = torch.zeros(2, module.config.n_hidden)
    safetensors.torch.save_file(tensors, path, metadata={"format": "pt"})
