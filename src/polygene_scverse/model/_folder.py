"""Format of a saved model: plain values as JSON, arrays and weights as safetensors, with a hash of each.

``model.json`` is the manifest. It has all plain values, the name, size and SHA-256 of the file of arrays, and its own
SHA-256 at the end. The file of arrays is named after its hash, so that a new model never overwrites the arrays of the
old one: a model is replaced at the moment its manifest is replaced.

A file is read once, and the bytes that are hashed are the bytes that are parsed. Nothing is unpickled, and shapes are
compared with those that the configuration implies before a network is created.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import struct
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import safetensors.torch
import torch
from torch import Tensor

from polygene_scverse import _files
from polygene_scverse._validate import shorten
from polygene_scverse.model._folder_checks import check_plain, check_shapes

FORMAT: Final = "polygene-scverse model"
FORMAT_VERSION: Final = 1
"""Incremented when older releases can no longer read models written by a newer one."""

MANIFEST: Final = "model.json"
OTHER_FILES: Final = {
    "model.pt": "a pickled model of scvi-tools, which could run code when it is read",
    "config.json": "a checkpoint of Hugging Face; if the original Polygene wrote it, call Polygene.from_original",
}
MOST_PLAIN: Final = 2**30
"""Maximum size of a manifest in bytes; no model reaches it."""

WEIGHTS, ARRAYS = "weights/", "arrays/"
KEPT: Final = {"bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64"}
"""Array dtypes that safetensors supports; others are written as lists."""


@dataclass(frozen=True)
class SavedModel:
    """Content of the folder of a saved model.

    Parameters
    ----------
    manifest
        Path of the manifest.
    class_name
        Name of the model's class.
    var_names
        Genes of the data that the model was set up with.
    attributes
        Attributes of the model, arrays included.
    weights
        Weights of the network.
    data
        Name, size and hash of the data saved with the model; empty if there are none.
    """

    manifest: Path
    class_name: str
    var_names: Any
    attributes: dict[str, Any]
    weights: dict[str, Tensor]
    data: dict[str, Any]


# writing


def write_model(
    folder: Path,
    prefix: str,
    *,
    class_name: str,
    var_names: Any,
    attributes: Mapping[str, Any],
    weights: Mapping[str, Tensor],
    data: Mapping[str, Any] | None = None,
) -> None:
    """Write a model to an existing folder; an earlier model stays intact until the new one is complete.

    Parameters
    ----------
    folder
        The folder.
    prefix
        Prefix of the file names.
    class_name, var_names, attributes, weights
        As in `SavedModel`.
    data
        Entry of data that `stage_data` wrote to the folder; None keeps that of the earlier model.
    """
    arrays: dict[str, np.ndarray] = {}
    plain = {name: _encode(value, name, arrays) for name, value in attributes.items()}
    tensors = {f"{WEIGHTS}{name}": value.detach().cpu().contiguous() for name, value in weights.items()}
    tensors |= {f"{ARRAYS}{name}": torch.from_numpy(np.array(value, order="C")) for name, value in arrays.items()}
    content = safetensors.torch.save(tensors, metadata={"layout": _digest_of_encoded(plain)})
    digest = hashlib.sha256(content).hexdigest()
    before = _earlier_files(folder / f"{prefix}{MANIFEST}")
    if data is None:  # the data of an earlier model stay in place
        data = before.get("data", {})
        data = data if _present(folder, data) is not None else {}
    part = folder / f"{prefix}model-{digest[:16]}.safetensors"
    body = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "written_by": {name: version(name) for name in ("polygene-scverse", "scvi-tools", "torch")},
        "class": class_name,
        "files": {"arrays": {"name": part.name, "size": len(content), "sha256": digest}, "data": dict(data)},
        "var_names": _encode(var_names, "var_names", {}),
        "attributes": plain,
    }
    try:
        _files.write_bytes(part, content)
        _files.write_bytes(folder / f"{prefix}{MANIFEST}", _signed(body))
    except BaseException:
        in_place = _earlier_files(folder / f"{prefix}{MANIFEST}")
        if part.name != in_place.get("arrays", {}).get("name"):
            _files.remove(part)
        if data.get("staged") not in (None, in_place.get("data", {}).get("staged")):
            _files.remove(folder / data["staged"])
        raise
    if (staged := data.get("staged")) and (folder / staged).is_file():
        os.replace(folder / staged, folder / data["name"])
        _files.sync(folder)
    _remove_earlier(folder, prefix, before, {part.name})


def stage_data(folder: Path, name: str, write: Any) -> dict[str, Any]:
    """Write data next to those of an earlier model, to be moved into place after the manifest is replaced.

    Parameters
    ----------
    folder, name
        Final place of the data.
    write
        Function that writes the data to a path.

    Returns
    -------
    Entry for `write_model`.
    """
    path = folder / name
    _files.remove_stale(path)
    part = _files.beside(path)
    try:
        write(part)
        digest, size = _hash_of(part)
        staged = path.with_name(f"{path.stem}-{digest[:16]}{path.suffix}")
        _files.sync(part)
        os.replace(part, staged)
    finally:
        _files.remove(part)
    return {"name": name, "staged": staged.name, "size": size, "sha256": digest}


def _signed(body: Mapping[str, Any]) -> bytes:
    """JSON with its own hash at the end."""
    return _dump({**body, "sha256": hashlib.sha256(_dump(body)).hexdigest()})


def _dump(body: Mapping[str, Any]) -> bytes:
    return (json.dumps(body, indent=1, allow_nan=False) + "\n").encode("ascii")


def _earlier_files(manifest: Path) -> dict[str, Any]:
    """Files of the model that is being replaced, if its manifest can be read."""
    try:
        files = json.loads(manifest.read_bytes())["files"]
        return {kind: entry for kind, entry in files.items() if isinstance(entry, dict)}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def _remove_earlier(folder: Path, prefix: str, before: Mapping[str, Any], kept: set[str]) -> None:
    """Remove the arrays of the model that was replaced, and those left by processes that were killed long ago."""
    pattern = re.compile(re.escape(prefix) + r"(model-[0-9a-f]{16}\.safetensors|[am]data-[0-9a-f]{16}\.h5(ad|mu))")
    replaced = {str(before.get("arrays", {}).get("name")), str(before.get("data", {}).get("staged"))}
    with suppress(OSError):
        for name in os.listdir(folder):
            if not pattern.fullmatch(name) or name in kept:
                continue
            old = time.time() - (folder / name).stat().st_mtime > _files.STALE
            if name in replaced or old:
                _files.remove(folder / name)


def _encode(value: Any, path: str, arrays: dict[str, np.ndarray]) -> Any:
    """Encode a value for JSON. Arrays, tables and non-JSON numbers become mappings whose key starts with "$"."""
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        value = float(value)
        return value if math.isfinite(value) else {"$float": repr(value)}
    if isinstance(value, Mapping):
        names = {str(key): item for key, item in value.items()}
        return {f"$${k[1:]}" if k[:1] == "$" else k: _encode(v, f"{path}.{k}", arrays) for k, v in names.items()}
    if isinstance(value, (list, tuple)):
        return [_encode(item, f"{path}.{i}", arrays) for i, item in enumerate(value)]
    if isinstance(value, Tensor):
        value = value.detach().cpu().numpy()
    if isinstance(value, np.ndarray) and value.ndim and value.dtype.name in KEPT:
        arrays[path] = value
        return {"$array": path}
    if isinstance(value, (np.ndarray, np.generic)):
        return _encode(value.tolist(), path, arrays)
    if isinstance(value, (pd.Index, pd.Series)):
        return _encode(value.to_list(), path, arrays)
    if isinstance(value, pd.DataFrame):
        table = {
            "index": _encode(value.index.to_numpy(), f"{path}.index", arrays),
            "index_name": _encode(value.index.name, f"{path}.index_name", arrays),
            "columns": _encode(value.columns.to_list(), f"{path}.columns", arrays),
            "values": [_encode(_column(value.iloc[:, i]), f"{path}.{i}", arrays) for i in range(value.shape[1])],
        }
        return {"$table": table}
    raise TypeError(
        f"`model.{path}`: found {type(value).__name__}, which cannot be saved: a saved model holds plain values, "
        "arrays and tables. Remove the attribute, or give it a name that does not end with an underscore."
    )


def _column(column: pd.Series) -> Any:
    """Values of a column, as numbers if possible."""
    if column.dtype != object:
        return column.to_numpy()
    try:
        return column.to_numpy(dtype=np.float64)
    except (TypeError, ValueError):
        return column.to_list()


# reading


def read_manifest(folder: Path, prefix: str) -> dict[str, Any]:
    """Read the plain part of a model, and check that it is intact and readable by this release.

    Raises
    ------
    FileNotFoundError
        If it does not exist.
    ValueError
        If it is damaged, from a later release, or from another package.
    """
    path = folder / f"{prefix}{MANIFEST}"
    if not path.is_file():
        _refuse_absent(folder, path, prefix)
    content = _read(path, MOST_PLAIN)
    try:
        body = json.loads(content)
        known = isinstance(body, dict) and body.get("format") == FORMAT
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"`dir_path`: {path} is damaged: it is not JSON ({error}). Pass a folder written by save(), or restore "
            "this one from a copy."
        ) from error
    if not known:
        raise ValueError(
            f"`dir_path`: {path} is not a model of this package, or is damaged: its format is not {FORMAT!r}. Pass a "
            "folder written by Polygene.save()."
        )
    found = body.get("format_version")
    if isinstance(found, int) and not isinstance(found, bool) and found > FORMAT_VERSION:
        raise ValueError(
            f"`dir_path`: {path} has format version {found}, written by {body.get('written_by')}, but this release "
            f"reads versions up to {FORMAT_VERSION}. Update polygene-scverse."
        )
    digest = body.pop("sha256", None)
    if found != FORMAT_VERSION or digest != hashlib.sha256(_dump(body)).hexdigest() or _signed(body) != content:
        raise ValueError(
            f"`dir_path`: {path} is damaged: its content does not match its checksum. Pass a folder written by save(), "
            "or restore this one from a copy."
        )
    return body


def read_model(folder: Path, prefix: str) -> SavedModel:
    """Read all of a model except its data. Each file is read once, hashed, and parsed.

    Raises
    ------
    FileNotFoundError
        If there is no model.
    ValueError
        As for `read_manifest`, and if the arrays are damaged or belong to another model.
    """
    for attempt in range(5):
        body = read_manifest(folder, prefix)
        try:
            content = _read_arrays(folder, prefix, body["files"]["arrays"])
            break
        except FileNotFoundError:  # another process may have replaced the model in the meantime
            if attempt == 4 or read_manifest(folder, prefix) == body:
                raise
    manifest = folder / f"{prefix}{MANIFEST}"
    try:
        return _parse(manifest, body, content)
    except ValueError:
        raise
    except Exception as error:
        raise ValueError(f"`dir_path`: {manifest} is damaged ({error!r}). Pass a folder written by save().") from error


def data_file(folder: Path, data: Mapping[str, Any]) -> Path | None:
    """Path of the data that were saved with a model, None if they do not exist.

    Raises
    ------
    ValueError
        If they were changed after saving.
    """
    path = _present(folder, data)
    if path is None:
        return None
    if _hash_of(path) != (data.get("sha256"), data.get("size")):
        raise ValueError(
            f"`adata`: {path} is damaged, or was not saved with the model. Pass adata=False to load without "
            "data, or adata= with the cells."
        )
    return path


def _present(folder: Path, data: Mapping[str, Any]) -> Path | None:
    """Place of the data, which is the staging path if a process was killed before it moved them."""
    names = [data.get("staged"), data.get("name")]
    if not all(map(_is_plain_name, names)):
        return None
    return next((folder / str(name) for name in names if (folder / str(name)).is_file()), None)


def _parse(manifest: Path, body: dict[str, Any], content: bytes) -> SavedModel:
    header = _header(manifest, content)
    entries = {name: (str(e["dtype"]), tuple(e["shape"])) for name, e in header.items() if name != "__metadata__"}
    attributes = {str(name): value for name, value in body["attributes"].items()}
    if header.get("__metadata__", {}).get("layout") != _digest_of_encoded(attributes):
        raise ValueError(
            f"`dir_path`: the weights in {manifest.parent} were written for other phenotypes, categories or genes, or "
            "for another order of them. Pass a folder whose files were written together."
        )
    wanted = set(_references(attributes))
    found = {name.removeprefix(ARRAYS) for name in entries if name.startswith(ARRAYS)}
    if wanted != found or any(not name.startswith((ARRAYS, WEIGHTS)) for name in entries):
        raise ValueError(
            f"`dir_path`: {manifest} names the arrays {shorten(sorted(wanted), 4)}, but there are "
            f"{shorten(sorted(found), 4)}. Pass a folder whose files were written together."
        )
    plain = {name: _decode(value, None) for name, value in attributes.items()}
    check_plain(plain)
    check_shapes(plain, {n.removeprefix(WEIGHTS): e for n, e in entries.items() if n.startswith(WEIGHTS)})
    tensors = safetensors.torch.load(content)
    arrays = {name.removeprefix(ARRAYS): t.numpy() for name, t in tensors.items() if name.startswith(ARRAYS)}
    return SavedModel(
        manifest,
        str(body["class"]),
        _decode(body["var_names"], None),
        {name: _decode(value, arrays) for name, value in attributes.items()},
        {name.removeprefix(WEIGHTS): tensor for name, tensor in tensors.items() if name.startswith(WEIGHTS)},
        dict(body["files"]["data"]),
    )


def _refuse_absent(folder: Path, path: Path, prefix: str) -> None:
    there = [what for name, what in OTHER_FILES.items() if (folder / f"{prefix}{name}").is_file()]
    if there:
        raise ValueError(
            f"`dir_path`: there is no {path.name} in {folder}, but {there[0]}. Pass a folder written by "
            "Polygene.save()."
        )
    names = sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []
    others = [name.removesuffix(MANIFEST) for name in names if name.endswith(MANIFEST)]
    hint = f" There are models with the prefixes {shorten(others)}: pass prefix=." if others else ""
    absent = f"{path.name} in {folder}" if folder.is_dir() else f"folder {folder}"
    raise FileNotFoundError(f"`dir_path`: there is no {absent}.{hint} Pass a folder written by save().")


def _read(path: Path, most: int) -> bytes:
    """Read a file, with a limit on its size."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > most:
            raise ValueError(f"`dir_path`: {path} has {size:,} bytes, more than the maximum of {most:,}.")
        return file.read(most + 1)


def _read_arrays(folder: Path, prefix: str, entry: Mapping[str, Any]) -> bytes:
    name, size, digest = entry["name"], entry["size"], entry["sha256"]
    if not _is_plain_name(name) or not re.fullmatch(r"model-[0-9a-f]{16}\.safetensors", name.removeprefix(prefix)):
        raise ValueError(
            f"`dir_path`: the manifest names {name!r}, which is not written by save(). Pass another folder."
        )
    path = folder / name
    if not path.is_file():
        raise FileNotFoundError(
            f"`dir_path`: there is no {name} in {folder}, which holds the weights of {prefix}{MANIFEST}. Copy it along."
        )
    content = _read(path, size)
    if len(content) != size or hashlib.sha256(content).hexdigest() != digest:
        raise ValueError(
            f"`dir_path`: {path} is damaged: its content does not match the checksum in {prefix}{MANIFEST}. Restore "
            "it from a copy."
        )
    return content


def _header(manifest: Path, content: bytes) -> dict[str, Any]:
    """Header of a safetensors file, read before any tensor is created."""
    length = struct.unpack("<Q", content[:8])[0]
    if length > len(content) - 8:
        raise ValueError(f"`dir_path`: the arrays of {manifest} are damaged. Pass a folder written by save().")
    header = json.loads(content[8 : 8 + length])
    return dict(header)


def _is_plain_name(name: object) -> bool:
    return isinstance(name, str) and name not in ("", ".", "..") and not set(name) & set("/\\:\0")


def _hash_of(path: Path) -> tuple[str, int]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return digest, os.fstat(file.fileno()).st_size


def _digest_of_encoded(attributes: Mapping[str, Any]) -> str:
    """Hash of the token layout that weights belong to, from encoded attributes; it is stored with the weights."""
    layout = attributes["init_params_"]["non_kwargs"]["layout"]
    return hashlib.sha256(json.dumps(layout, sort_keys=True).encode()).hexdigest()


def _references(value: Any) -> list[str]:
    """Names of the arrays that encoded values refer to."""
    if isinstance(value, dict):
        if set(value) == {"$array"}:
            return [str(value["$array"])]
        return [name for item in value.values() for name in _references(item)]
    return [name for item in value for name in _references(item)] if isinstance(value, list) else []


def _decode(value: Any, arrays: Mapping[str, np.ndarray] | None) -> Any:
    """Undo `_encode`; if no arrays are passed, they become None."""
    if isinstance(value, list):
        return [_decode(item, arrays) for item in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        ((key, item),) = value.items()
        if key == "$float":
            return float(item)
        if key == "$array":
            return None if arrays is None else arrays[item]
        if key == "$table":
            return None if arrays is None else _table(item, arrays)
    return {f"${k[2:]}" if k[:2] == "$$" else k: _decode(v, arrays) for k, v in value.items()}


def _table(item: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> pd.DataFrame:
    index = pd.Index(_decode(item["index"], arrays), name=item["index_name"])
    columns = pd.Index(_decode(item["columns"], arrays))
    values = [pd.Series(_decode(column, arrays), index=index) for column in item["values"]]
    return pd.DataFrame(dict(enumerate(values)), index=index).set_axis(columns, axis=1)
