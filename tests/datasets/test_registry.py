import hashlib
import importlib
import re
from pathlib import Path

import pytest

from polygene_scverse import datasets
from polygene_scverse.datasets._registry import REGISTRY

EACH = pytest.mark.parametrize("entry", REGISTRY.values(), ids=REGISTRY)


def loader(entry):
    module, _, function = entry.source.rpartition(".")
    return getattr(importlib.import_module(module), function)


@EACH
def test_entry_is_complete(entry):
    assert entry.name in datasets.__all__
    assert re.fullmatch("[0-9a-f]{64}", entry.sha256)
    assert "doi.org/10." in entry.citation
    assert entry.licence
    assert callable(loader(entry))


@EACH
def test_data_are_as_described(entry):
    adata = getattr(datasets, entry.name)()
    assert adata.shape == entry.shape
    assert set(entry.phenotypes) <= set(adata.obs)


@EACH
def test_checksum_of_the_file(entry):
    folder = Path(importlib.import_module(loader(entry).__module__).__file__).parent
    file = folder / entry.file
    if not file.is_file():
        pytest.skip(f"this version of the package brings the data in another file; {entry.file} is in {entry.versions}")
    assert hashlib.sha256(file.read_bytes()).hexdigest() == entry.sha256
