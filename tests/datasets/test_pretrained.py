import io
import tarfile
import zipfile

import numpy as np
import pandas as pd
import pytest
import torch
from anndata import AnnData
from transformers import BertConfig, BertForMaskedLM

from polygene_scverse.datasets import pretrained
from polygene_scverse.datasets._registry import PRETRAINED
from polygene_scverse.model import Polygene
from polygene_scverse.model.original._files import CATEGORY_FILES

NAME = "Polygene (512)"
IDS = {"Polygene (2432)": "1jmtOS3QfOpiGPE2OSsa_fQoiJfRntUcu", "Polygene (512)": "1Zj1OilSb4Dzoitx-Ycl7lrUgIo2VLbA0"}
ADDRESS = f"/download?id={IDS[NAME]}&export=download&confirm=t"
MODEL = {"model/config.json": b"{}", "model/model.safetensors": b"weights"}


def zipped(files):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def tarred(files):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


PACKED = pytest.mark.parametrize("pack", [zipped, tarred], ids=["zip", "tar.gz"])


@pytest.fixture
def get(server, tmp_path):
    """Download the smaller model, which is these bytes."""

    def get(body):
        server.files[ADDRESS] = body
        return pretrained(NAME, cache=tmp_path, base_url=server.url)

    return get


def test_table():
    base = "https://drive.usercontent.google.com/download?id="
    urls = {name: entry.url() for name, entry in PRETRAINED.items()}
    assert urls == {name: f"{base}{drive_id}&export=download&confirm=t" for name, drive_id in IDS.items()}
    assert all("doi.org/10." in entry.citation and entry.licence for entry in PRETRAINED.values())


@PACKED
def test_archive_is_unpacked(get, server, tmp_path, pack):
    folder = get(pack(MODEL))
    assert folder.name == "model"
    assert tmp_path.resolve() / "pretrained" in folder.parents
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == {
        "config.json": b"{}",
        "model.safetensors": b"weights",
    }
    assert get(b"") == folder  # cached: the server is not asked again
    assert len(server.asked) == 1


def test_other_archive_is_unpacked_to_another_folder(get, tmp_path):
    """Who accepts another file does not get the model that the first one held."""
    folder = get(zipped(MODEL))
    for file in (tmp_path / "pretrained").glob("polygene_512*"):
        if file.is_file():
            file.unlink()
    other = get(zipped(MODEL | {"model/config.json": b"[]"}))
    assert other != folder
    assert (other / "config.json").read_bytes() == b"[]"


def test_an_archive_of_a_checkpoint_is_read_as_a_model(get, tmp_path):
    """As the published ones are: folder, vocabulary and genes make a model that predicts."""
    words = ["[PAD]", "[MASK]", "[SEP]", "[CLS]", "[UNK]", "[START]", "[END]"]
    words += [f"[no_{name}]" for name in CATEGORY_FILES] + [f"[{name}_{i}]" for name in CATEGORY_FILES for i in (0, 1)]
    vocabulary = tmp_path / "phenotypic_vocab"
    vocabulary.mkdir()
    (vocabulary / "vocab.txt").write_text("\n".join(words))
    for name, file in CATEGORY_FILES.items():
        (vocabulary / file).write_text(f"{name} 0\n{name} 1\n")
    sizes = {"hidden_size": 6, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    config = BertConfig(vocab_size=len(words) + 10, max_position_embeddings=5 + 8, **sizes)
    with torch.random.fork_rng():
        BertForMaskedLM(config).save_pretrained(tmp_path / "saved")
    folder = get(zipped({f"checkpoint-7/{file.name}": file.read_bytes() for file in (tmp_path / "saved").iterdir()}))
    assert folder.name == "checkpoint-7"
    model = Polygene.from_original(folder, vocabulary=vocabulary, genes=list("ABCDE"))
    cells = AnnData(np.array([[1, 0, 2, 0, 3], [0, 4, 0, 0, 0]], np.float32), var=pd.DataFrame(index=list("EDCBA")))
    predicted = model.predict_phenotype(cells)
    assert {name: list(table) for name, table in predicted.items()} == model.categories
    assert model.categories["cell_type"] == ["cell_type 0", "cell_type 1"]


def test_several_models_give_the_whole_folder(get):
    folder = get(zipped(MODEL | {"second/config.json": b"{}"}))
    assert {file.name for file in folder.iterdir()} == {"model", "second"}


def test_weights_of_torch_are_one_file(get):
    buffer = io.BytesIO()
    torch.save({"weight": torch.ones(3)}, buffer)
    path = get(buffer.getvalue())
    assert zipfile.is_zipfile(path)
    assert torch.equal(torch.load(path, weights_only=True)["weight"], torch.ones(3))


def test_other_file_is_left_as_it_is(get):
    assert get(b"weights").read_bytes() == b"weights"


def test_zip_cannot_write_outside(get, tmp_path):
    folder = get(zipped(MODEL | {"../../../outside.txt": b"evil"}))
    assert (folder / "config.json").exists()
    assert not list(tmp_path.rglob("outside.txt"))


def test_tar_cannot_write_outside(get, tmp_path):
    with pytest.raises(tarfile.OutsideDestinationError, match="outside"):
        get(tarred(MODEL | {"../../../outside.txt": b"evil"}))
    assert not list(tmp_path.rglob("outside.txt"))
    assert not list((tmp_path / "pretrained").glob("polygene_512-*"))


def test_confirm_page_of_google_drive(get, server):
    server.content_type = "text/html; charset=utf-8"
    with pytest.raises(ConnectionError, match=r"'Google Drive - Virus scan warning'.*browser.*polygene_512$"):
        get(b"<!DOCTYPE html><title>Google Drive - Virus scan warning</title>")


def test_tampered(get, tmp_path):
    get(zipped(MODEL))
    (tmp_path / "pretrained" / "polygene_512").write_bytes(b"evil")
    with pytest.raises(ValueError, match="sha256"):
        get(b"")


def test_no_such_model(server):
    with pytest.raises(ValueError, match=r"`name`: found 'Polygene'.*'Polygene \(2432\)', 'Polygene \(512\)'"):
        pretrained("Polygene", base_url=server.url)
    assert server.asked == []
