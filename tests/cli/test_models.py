import logging

import pytest

from polygene_scverse.cli._errors import UserError
from polygene_scverse.cli._models import read_model
from polygene_scverse.cli._settings import ModelSettings
from polygene_scverse.model import Polygene


def test_a_saved_model(model_folder, capsys):
    level = logging.getLogger("scvi").level
    model = read_model(ModelSettings(model=model_folder, device="cpu"))
    assert model.is_trained
    assert model.device.type == "cpu"
    assert logging.getLogger("scvi").level == level
    assert "already downloaded" not in "".join(capsys.readouterr())


def test_a_checkpoint_of_the_original(theirs):
    settings = ModelSettings(model=theirs.checkpoint, vocabulary=theirs.vocabulary, threshold=0.1)
    model = read_model(settings, [theirs.cells])  # the cells order the genes; ten bins need no threshold
    expected = Polygene.from_original(theirs.checkpoint, vocabulary=theirs.vocabulary, genes=theirs.cells)
    assert model.genes == expected.genes
    assert model.edges_ == expected.edges_


def test_what_is_no_model(tmp_path, model_folder):
    for settings, match in [
        (ModelSettings(), "--model is required"),
        (ModelSettings(model=tmp_path / "nix"), "--model: there is no folder"),
        (ModelSettings(model=tmp_path), r"holds neither a saved model \(model.json\) nor a checkpoint"),
        (ModelSettings(model=model_folder, device="cuda:x"), "--device: found 'cuda:x'"),
    ]:
        with pytest.raises(UserError, match=match):
            read_model(settings)


def test_a_checkpoint_without_its_words(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match="--vocabulary is required"):
        read_model(ModelSettings(model=tmp_path))
