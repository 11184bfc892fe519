"""The folder of a model: what was changed, by one bit or on purpose, is refused in words."""

import hashlib
import json
import shutil
import struct
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import torch

from polygene_scverse.model import Polygene, _folder
from polygene_scverse.model._folder import _decode, _encode, _signed, read_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    from polygene_scverse.datasets import simulate

    adata = simulate(60, 12, missing=0.1)
    Polygene.setup_anndata(adata, phenotype_keys=["cell_type", "sex"])
    model = Polygene(adata, n_hidden=8, n_layers=1, n_heads=2, n_intermediate=8)
    model.train(max_epochs=1, validation_size=0.4, enable_progress_bar=False)
    folder = tmp_path_factory.mktemp("saved") / "model"
    model.save(folder)
    return folder


@pytest.fixture
def copied(folder, tmp_path):
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def body_of(folder):
    body = json.loads((folder / "model.json").read_text())
    del body["sha256"]
    return body


def rewrite(folder, change_plain=None, change_tensors=None, metadata=None):
    """Change a model and make all hashes anew, as one would who knows the format."""
    body = body_of(folder)
    path = folder / body["files"]["arrays"]["name"]
    content = path.read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    told = json.loads(content[8 : 8 + length])["__metadata__"]
    tensors = safetensors.torch.load(content)
    if change_plain is not None:
        change_plain(body)
    if change_tensors is not None:
        change_tensors(tensors)
    if metadata == "anew":
        told = {"layout": _folder._digest_of_encoded(body["attributes"])}
    content = safetensors.torch.save(tensors, metadata=told)
    digest = hashlib.sha256(content).hexdigest()
    path.unlink()
    name = f"model-{digest[:16]}.safetensors"
    (folder / name).write_bytes(content)
    body["files"]["arrays"] = {"name": name, "size": len(content), "sha256": digest}
    (folder / "model.json").write_bytes(_signed(body))


def arguments(body):
    return body["attributes"]["init_params_"]["non_kwargs"]


def network(body):
    return body["attributes"]["init_params_"]["kwargs"]["network"]


def test_unchanged_it_loads(copied):
    rewrite(copied)
    Polygene.load(copied, adata=False)


def test_every_flipped_bit_is_noticed(copied):
    rng = np.random.default_rng(0)
    files = sorted(copied.iterdir())
    assert len(files) == 2
    for file in files:
        content = file.read_bytes()
        first = np.arange(min(256, len(content)))
        for place in [*first[::4], *rng.integers(0, len(content), 100), len(content) - 1]:
            changed = bytearray(content)
            changed[place] ^= 1 << int(rng.integers(8))
            file.write_bytes(changed)
            with pytest.raises(ValueError, match="`dir_path`: "):
                Polygene.load(copied, adata=False)
        for other in (content[:-1], content + b" ", b""):
            file.write_bytes(other)
            with pytest.raises(ValueError, match=r"`dir_path`: .*damaged|has .* bytes"):
                Polygene.load(copied, adata=False)
        file.write_bytes(content)
    Polygene.load(copied, adata=False)


def test_flipped_bits_of_saved_data_are_noticed(tmp_path, folder):
    from polygene_scverse.datasets import simulate

    Polygene.load(folder, adata=simulate(60, 12, missing=0.1)).save(tmp_path / "m", save_anndata=True)
    path = tmp_path / "m" / "adata.h5ad"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"`adata`: .*adata\.h5ad is damaged, or was not saved"):
        Polygene.load(tmp_path / "m")
    assert Polygene.load(tmp_path / "m", adata=False).adata is None
    path.unlink()
    with pytest.warns(UserWarning, match=r"adata.h5ad, which was saved with the model, is no longer in"):
        assert Polygene.load(tmp_path / "m").adata is None


HUGE = {
    "hidden units": lambda b: network(b).update(n_hidden=10**9),
    "layers": lambda b: network(b).update(n_layers=100_000),
    "layers more than weights": lambda b: network(b).update(n_layers=12),
    "intermediate": lambda b: network(b).update(n_intermediate=10**9),
    "bins": lambda b: arguments(b)["layout"].update(n_bins=10**9),
    "first bin": lambda b: arguments(b)["layout"].update(first_bin_id=10**9),
    "ids": lambda b: arguments(b)["layout"]["phenotypes"][0].update(no_value_id=10**9),
    "words": lambda b: arguments(b)["layout"]["vocabulary"].extend(["x"] * 10**5),
    "genes": lambda b: arguments(b)["layout"]["genes"].extend(map(str, range(10**5))),
}


@pytest.mark.parametrize("change", HUGE.values(), ids=HUGE.keys())
def test_sizes_that_the_weights_do_not_have_are_refused_at_once(copied, change):
    rewrite(copied, change, metadata="anew")
    start = time.monotonic()
    with pytest.raises(ValueError, match="`dir_path`: "):
        Polygene.load(copied, adata=False)
    assert time.monotonic() - start < 2


def test_a_file_that_is_larger_than_declared_is_not_read(copied):
    path = next(copied.glob("*.safetensors"))
    with path.open("r+b") as file:
        file.truncate(2**40)  # sparse
    with pytest.raises(ValueError, match=r"has 1,099,511,627,776 bytes, more than the"):
        Polygene.load(copied, adata=False)


def first(tensors, text):
    return next(tensors[name] for name in sorted(tensors) if text in name)


def spoil(text, value):
    def change(tensors):
        first(tensors, text).view(-1)[0] = value

    return change


def drop(text):
    def change(tensors):
        del tensors[next(name for name in sorted(tensors) if text in name)]

    return change


WRONG_TENSORS = {
    "NaN": (spoil("weights/encoder.embeddings.word", float("nan")), "hold NaN or infinite values"),
    "infinite": (spoil("weights/head.bias", float("inf")), "hold NaN or infinite values"),
    "missing": (drop("weights/head.bias"), "weights are missing"),
    "array missing": (drop("arrays/"), "names the arrays"),
    "not known": (lambda t: t.update({"weights/new": torch.ones(1)}), "not known"),
    "shape": (lambda t: t.update({"weights/head.bias": torch.ones(3)}), "but the configuration says"),
    "kind": (lambda t: t.update({"weights/head.bias": t["weights/head.bias"].long()}), "but the configuration says"),
    "codes": (spoil(".codes", 99), "have other categories"),
    "counts": (spoil(".category_counts", -1.0), "category counts"),
    "moments": (spoil("panels.means", float("nan")), "moments of the training cells"),
    "genes of the moments": (spoil("panels.genes", 10**6), "moments of the training cells"),
    "scales of the moments": (spoil("panels.temperatures", 0.0), "moments of the training cells"),
}


@pytest.mark.parametrize(("change", "words"), WRONG_TENSORS.values(), ids=WRONG_TENSORS.keys())
def test_impossible_arrays_are_refused(copied, change, words):
    rewrite(copied, change_tensors=change)
    with pytest.raises(ValueError, match=words):
        Polygene.load(copied, adata=False)


def reorder(body):
    arguments(body)["layout"]["phenotypes"][0]["categories"].reverse()


def reorder_all(body):
    layout, registry = arguments(body)["layout"], body["attributes"]["registry_"]
    layout["phenotypes"][0]["categories"].reverse()
    ids = layout["phenotypes"][0]["ids"]
    words = [layout["vocabulary"][i] for i in ids][::-1]
    for i, word in zip(ids, words, strict=True):
        layout["vocabulary"][i] = word
    registry["field_registries"]["phenotypes"]["state_registry"]["categories"]["cell_type"].reverse()


def set_temperature(value):
    def change(body):
        body["attributes"]["fitted_"]["calibration"]["cell_type"]["temperature"] = value

    return change


def set_trials(name, value):
    def change(body):
        body["attributes"]["fitted_"]["panel_accuracy"]["cell_type"][name] = value

    return change


WRONG_PLAIN = {
    "negative temperature": (set_temperature(-1.0), "temperature of 'cell_type' is -1.0, but it must be above 0"),
    "temperature 0": (set_temperature(0), "temperature of 'cell_type' is 0"),
    "NaN temperature": (set_temperature({"$float": "nan"}), "temperature of 'cell_type' is nan"),
    "no number": (set_temperature("1"), "temperature of 'cell_type' is 1"),
    "registered order": (
        lambda b: b["attributes"]["registry_"]["field_registries"]["phenotypes"]["state_registry"]["categories"][
            "cell_type"
        ].reverse(),
        "are in another order",
    ),
    "edges": (lambda b: b["attributes"]["edges_"].reverse(), "do not increase from 0"),
    "heads": (lambda b: network(b).update(n_heads=3), "`n_heads`: 3 does not divide"),
    "dropout": (lambda b: network(b).update(dropout=1.5), "dropout is 1.5"),
    "negative layers": (lambda b: network(b).update(n_layers=-1), "n_layers is -1"),
    "unknown size": (lambda b: network(b).update(n_moons=2), "damaged"),
    "no layout": (lambda b: arguments(b).update(layout=None), "damaged"),
    "no attributes": (lambda b: b.update(attributes=[]), "damaged"),
    "class": (lambda b: b.update({"class": "SCVI"}), "holds a model of class SCVI, but Polygene was asked"),
    "shares": (lambda b: b["attributes"]["fitted_"].update(linear_share=[7.0, 0.0]), "shares of the linear path"),
    "trials": (set_trials("accuracy", [0.5]), "the accuracy of 'cell_type' with few genes is not valid"),
    "factors": (set_trials("factors", [-1.0]), "the accuracy of 'cell_type' with few genes is not valid"),
}


@pytest.mark.parametrize(("change", "words"), WRONG_PLAIN.values(), ids=WRONG_PLAIN.keys())
def test_impossible_values_are_refused(copied, change, words):
    try:
        rewrite(copied, change, metadata="anew")
    except (TypeError, AttributeError):
        rewrite(copied, change)
    with pytest.raises(ValueError, match=words):
        Polygene.load(copied, adata=False)


@pytest.mark.parametrize("metadata", [None, "anew"])
def test_reordered_categories_are_refused(copied, metadata):
    rewrite(copied, reorder, metadata=metadata)
    with pytest.raises(ValueError, match="another order"):
        Polygene.load(copied, adata=False)


def test_categories_that_are_reordered_everywhere_are_not_those_of_the_weights(copied):
    rewrite(copied, reorder_all)
    with pytest.raises(ValueError, match="written for other phenotypes, categories or genes"):
        Polygene.load(copied, adata=False)


def test_a_version_from_the_future_is_refused(copied):
    rewrite(copied, lambda body: body.update(format_version=2))
    with pytest.raises(ValueError, match=r"format version 2, written by .* reads versions up to 1. Update polygene"):
        Polygene.load(copied, adata=False)


OTHERS = {
    "scvi-tools": ("model.pt", b"\x80\x02", ValueError, "a pickled model of scvi-tools"),
    "Hugging Face": ("config.json", b"{}", ValueError, "Polygene.from_original"),
    "JSON": ("model.json", b"{}", ValueError, "is not a model of this package"),
    "list": ("model.json", b"[1]", ValueError, "is not a model of this package"),
    "deep": ("model.json", b"[" * 10**5, ValueError, "is damaged: it is not JSON"),
    "prefix": ("best_model.json", b"{}", FileNotFoundError, r"prefixes \['best_'\]: pass prefix="),
    "nothing": ("notes.txt", b"", FileNotFoundError, r"there is no model\.json in"),
}


@pytest.mark.parametrize(("name", "content", "error", "words"), OTHERS.values(), ids=OTHERS.keys())
def test_folders_of_others_are_refused(tmp_path, name, content, error, words):
    (tmp_path / name).write_bytes(content)
    for read in (Polygene.load, Polygene.load_registry, Polygene.view_setup_args):
        with pytest.raises(error, match=words):
            read(tmp_path)


def test_the_manifest_cannot_name_other_places(copied, tmp_path):
    name = next(copied.glob("*.safetensors")).name
    shutil.copy(copied / name, tmp_path / name)
    body = body_of(copied)
    for other in (f"../{name}", str(tmp_path / name), "model.json", 3):
        body["files"]["arrays"]["name"] = other
        (copied / "model.json").write_bytes(_signed(body))
        with pytest.raises(ValueError, match="`dir_path`: "):
            Polygene.load(copied, adata=False)


def test_a_missing_part_is_named(copied):
    next(copied.glob("*.safetensors")).unlink()
    with pytest.raises(FileNotFoundError, match=r"there is no model-\w+\.safetensors in .* Copy it along"):
        Polygene.load(copied, adata=False)


def test_each_file_is_read_once(folder, monkeypatch):
    opened = []
    plain_open = Path.open
    monkeypatch.setattr(Path, "open", lambda self, *a, **k: (opened.append(self.name), plain_open(self, *a, **k))[1])
    read_model(folder, "")
    assert sorted(opened) == sorted(path.name for path in folder.iterdir())


VALUES = {
    "mapping": {"a": 1, "$array": "x", "$$b": [None, True, "é\ud7ff"]},
    "numbers": [float("nan"), float("inf"), -float("inf"), 1e-320, 0.1, 10**30],
    "order": {"z": {}, "a": []},
}


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES.keys())
def test_values_come_back(value):
    arrays = {}
    plain = json.loads(json.dumps(_encode(value, "v", arrays), allow_nan=False))
    assert repr(_decode(plain, arrays)) == repr(value)


def test_arrays_and_tables_come_back():
    arrays = {}
    table = pd.DataFrame({"loss": [0.5, float("nan")]}, index=pd.Index([0, 3], name="epoch"))
    value = {"a": [np.arange(3, dtype=np.int32)], "t": table, "n": np.float32(0.5), "o": np.array(["x", None])}
    found = _decode(json.loads(json.dumps(_encode(value, "v", arrays))), arrays)
    assert found["a"][0].dtype == np.int32
    assert (found["n"], found["o"]) == (0.5, ["x", None])
    pd.testing.assert_frame_equal(found["t"], table)


def test_what_cannot_be_saved_is_named():
    with pytest.raises(TypeError, match=r"`model\.a\.b`: found function, which cannot be saved"):
        _encode({"b": len.__class__ and (lambda: 0)}, "a", {})
