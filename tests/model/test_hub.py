"""The hub, with a stand-in that keeps repositories in a folder: no network, and huggingface_hub need not be there."""

import shutil
import sys
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest

from polygene_scverse.model import Polygene


class Card:
    def __init__(self, content):
        self.content = content

    def save(self, path):
        Path(path).write_text(self.content)

    def push_to_hub(self, repo, token=None):
        Path(Api.root, repo, "README.md").write_text(self.content)


class Api:
    root = None

    def __init__(self, token=None):
        self.token = token

    def upload_file(self, *, path_or_fileobj, path_in_repo, repo_id, token):
        Path(self.root, repo_id, path_in_repo).write_bytes(path_or_fileobj)

    def upload_folder(self, *, folder_path, repo_id, token, ignore_patterns):
        ignore = shutil.ignore_patterns(*ignore_patterns)
        shutil.copytree(folder_path, Path(self.root, repo_id), dirs_exist_ok=True, ignore=ignore)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """Folder of the repositories; files are links into a store, as huggingface_hub makes them."""
    Api.root = tmp_path / "hub"
    fake = ModuleType("huggingface_hub")
    asked = []

    def create_repo(repo, token=None, exist_ok=False, private=False):
        asked.append({"repo": repo, "private": private, "token": token})
        Path(Api.root, repo).mkdir(parents=True, exist_ok=exist_ok)

    def snapshot_download(*, repo_id, revision, cache_dir, token, ignore_patterns):
        store, folder = tmp_path / "blobs", tmp_path / "snapshots" / repo_id
        ignore = shutil.ignore_patterns(*ignore_patterns)
        shutil.copytree(Path(Api.root, repo_id), store / repo_id, dirs_exist_ok=True, ignore=ignore)
        folder.mkdir(parents=True)
        for file in (store / repo_id).iterdir():
            (folder / file.name).symlink_to(file)
        return str(folder)

    vars(fake).update(
        HfApi=Api, ModelCard=Card, ModelCardData=dict, create_repo=create_repo, snapshot_download=snapshot_download,
        add_collection_item=None,
    )  # fmt: skip
    for name in [name for name in sys.modules if name.partition(".")[0] == "huggingface_hub"]:
        monkeypatch.delitem(sys.modules, name)
    for name in [name for name in sys.modules if name.startswith("scvi.hub")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "huggingface_hub", fake)
    yield Api.root, asked
    for name in [name for name in sys.modules if name.startswith("scvi.hub")]:
        del sys.modules[name]


def test_a_model_comes_back_as_it_went(hub, simulated_and_model):
    cells, model = simulated_and_model
    root, asked = hub
    model.push_to_hub("me/blood", license="cc-by-4.0", description="Simulated blood.", token="secret", private=True)
    assert asked == [{"repo": "me/blood", "private": True, "token": "secret"}]
    there = {path.name for path in (root / "me/blood").iterdir()}
    assert {"README.md", "_scvi_required_metadata.json", "model.json"} < there
    assert not any(name.endswith("h5ad") for name in there)
    back = Polygene.from_hub("me/blood")
    for name, table in model.predict_phenotype(cells).items():
        pd.testing.assert_frame_equal(back.predict_phenotype(cells)[name], table)


def test_the_card_says_what_the_model_is(hub, simulated_and_model):
    _, model = simulated_and_model
    table = pd.DataFrame({"phenotype": ["cell_type"], "score": ["a|b"], "value": [0.8125]})
    model.push_to_hub("me/blood", license="mit", description="Simulated blood.", evaluation=table)
    card = (hub[0] / "me/blood/README.md").read_text()
    head = card.split("---")[1]
    assert "license: mit" in head
    assert "model_cls_name:Polygene" in head
    counts = dict(zip(model.categories["cell_type"], model.fitted_.category_counts[0], strict=True))
    assert f"NK cell ({counts['NK cell']:.0f})" in card
    accuracy = model.history_["cell_type_accuracy_final"].iloc[0, 0]
    assert f"| cell_type | {accuracy:.3f} |" in card
    assert "| cell_type | a\\|b | 0.812 |" in card
    assert model.calibration_["sex"]["note"] in card
    assert "Simulated blood." in card
    assert "## Limitations" in card


def test_a_changed_download_is_refused(hub, simulated_and_model):
    _, model = simulated_and_model
    model.push_to_hub("me/blood")
    weights = next((hub[0] / "me/blood").glob("*.safetensors"))
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(ValueError, match="changed"):
        Polygene.from_hub("me/blood")


def test_other_repositories_are_refused(hub, simulated_and_model):
    _, model = simulated_and_model
    model.push_to_hub("me/blood")
    metadata = hub[0] / "me/blood/_scvi_required_metadata.json"
    metadata.write_text(metadata.read_text().replace("Polygene", "SCVI"))
    with pytest.raises(ValueError, match="holds a model of class SCVI"):
        Polygene.from_hub("me/blood")
    (hub[0] / "me/none").mkdir()
    with pytest.raises(ValueError, match="was not created by push_to_hub"):
        Polygene.from_hub("me/none")


def test_without_the_extra_the_error_names_it(monkeypatch, simulated_and_model):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ImportError, match=r"polygene-scverse\[hub\]"):
        Polygene.from_hub("me/blood")
    with pytest.raises(ImportError, match=r"polygene-scverse\[hub\]"):
        simulated_and_model[1].push_to_hub("me/blood")


def test_an_untrained_model_is_not_uploaded(hub, simulated):
    Polygene.setup_anndata(simulated, "cell_type")
    with pytest.raises(RuntimeError, match="not trained"):
        Polygene(simulated, n_genes=10, n_hidden=16, n_layers=1).push_to_hub("me/blood")
    assert not hub[1]
