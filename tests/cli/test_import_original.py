import pytest
import torch

from polygene_scverse.model import Polygene


def test_the_saved_model_is_that_of_python(polygene, theirs, tmp_path):
    flags = ["--vocabulary", theirs.vocabulary, "--genes", theirs.cells, "--columns", "age=years"]
    said = polygene("import-original", theirs.checkpoint, *flags, "--output", tmp_path / "model").said
    assert "30 genes in 10 bins" in said
    arguments = {"vocabulary": theirs.vocabulary, "genes": theirs.cells, "columns": {"age": "years"}}
    expected = Polygene.from_original(theirs.checkpoint, **arguments)
    found = Polygene.load(tmp_path / "model", adata=False)
    assert found.genes == expected.genes
    assert found._columns == expected._columns
    for name, value in expected.module.state_dict().items():
        assert torch.equal(found.module.state_dict()[name], value)


def test_what_to_original_wrote_needs_no_other_file(polygene, theirs, tmp_path):
    arguments = {"vocabulary": theirs.vocabulary, "genes": theirs.cells}
    Polygene.from_original(theirs.checkpoint, **arguments).to_original(tmp_path / "theirs")
    assert "30 genes" in polygene("import-original", tmp_path / "theirs", "--output", tmp_path / "model").said


@pytest.mark.parametrize(
    ("flags", "match"),
    [
        ([], "--output is required"),
        (["--vocabulary", "v", "--genes", "g", "-o", "m", "--columns", "age"], "--columns: found 'age'"),
        (["--vocabulary", "v", "--genes", "g", "-o", "m"], "Error: FOLDER"),
    ],
    ids=["nothing", "columns", "no such folder"],
)
def test_what_cannot_be(polygene, tmp_path, flags, match):
    assert match in polygene("import-original", tmp_path, *flags, code=2).said
