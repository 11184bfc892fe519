import pytest
import typer

from polygene_scverse.cli._config import read_config

KEYS = {"lr": "lr", "learning_rate": "lr", "phenotypes": "phenotypes", "n_hidden": "n_hidden"}
FILES = {
    "a.yaml": "learning_rate: 2e-5\nphenotypes: [sex, 1]\nn_hidden:\n",
    "a.yml": "lr: '2e-5'\nphenotypes:\n  - sex\n  - 1\n",
    "a.toml": 'learning_rate = "2e-5"\nphenotypes = ["sex", 1]\n',
    "a.json": '{"lr": "2e-5", "phenotypes": ["sex", 1]}',
}


@pytest.mark.parametrize("name", FILES)
def test_formats(tmp_path, name):
    (tmp_path / name).write_text(FILES[name])
    assert read_config(tmp_path / name, KEYS) == {"lr": "2e-5", "phenotypes": ["sex", "1"]}


def test_an_empty_file(tmp_path):
    (tmp_path / "a.yaml").write_text("# nothing\n")
    assert read_config(tmp_path / "a.yaml", KEYS) == {}


ERRORS = {
    "unknown": ("a.yaml", "lr: 1\nlearn_rate: 2\nx: 3", r"'learn_rate' is not a setting \(did you mean .*'x' is not a"),
    "number as a key": ("a.yaml", "1: 2", "'1' is not a setting"),
    "twice": ("a.yaml", "lr: 1\nlearning_rate: 2", "lr is set under two names. Set it once"),
    "not yaml": ("a.yaml", "lr: [1", "a.yaml cannot be read"),
    "not toml": ("a.toml", "lr", "a.toml cannot be read"),
    "not json": ("a.json", "{", "a.json cannot be read"),
    "a list": ("a.yaml", "- lr", "contains list, but a mapping of settings to values is needed"),
    "suffix": ("a.ini", "lr=1", "a.ini must end with one of .yaml"),
}


@pytest.mark.parametrize(("name", "text", "match"), ERRORS.values(), ids=ERRORS)
def test_what_cannot_be(tmp_path, name, text, match):
    (tmp_path / name).write_text(text)
    with pytest.raises(typer.BadParameter, match=match):
        read_config(tmp_path / name, KEYS)


def test_no_file(tmp_path):
    with pytest.raises(typer.BadParameter, match=r"a\.yaml does not exist"):
        read_config(tmp_path / "a.yaml", KEYS)
