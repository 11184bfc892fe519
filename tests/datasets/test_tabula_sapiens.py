import pytest

from polygene_scverse.datasets import tabula_sapiens
from polygene_scverse.datasets._registry import TABULA_SAPIENS


@pytest.fixture
def published(server):
    """All shards, of a few bytes each, on a server of this machine."""
    server.files = {f"/Tabula_Sapiens_ranked_{i}.h5ad": f"shard {i}".encode() for i in range(48)}
    return server


def test_table():
    urls = [entry.url() for entry in TABULA_SAPIENS]
    base = "https://pub-8978012207224952a747e641910bcb1c.r2.dev/ranked"
    assert urls == [f"{base}/Tabula_Sapiens_ranked_{i}.h5ad" for i in range(48)]
    assert {entry.citation[-31:] for entry in TABULA_SAPIENS} == {"https://doi.org/10.1126/science.abl4896"[-31:]}
    assert all(entry.licence for entry in TABULA_SAPIENS)


def test_some_in_the_order_asked_for(published, tmp_path):
    paths = tabula_sapiens([47, 0], cache=tmp_path, base_url=published.url)
    assert [path.name for path in paths] == ["Tabula_Sapiens_ranked_47.h5ad", "Tabula_Sapiens_ranked_0.h5ad"]
    assert [path.read_text() for path in paths] == ["shard 47", "shard 0"]
    assert {path.parent for path in paths} == {tmp_path.resolve() / "tabula_sapiens"}
    assert len(published.asked) == 2


def test_all(published, tmp_path, monkeypatch):
    monkeypatch.setenv("POLYGENE_CACHE", str(tmp_path))
    paths = tabula_sapiens(base_url=published.url)
    assert [path.read_text() for path in paths] == [f"shard {i}" for i in range(48)]


@pytest.mark.parametrize("shards", [[48], [0, -1], ["0"]], ids=["too high", "negative", "text"])
def test_no_such_shard(published, tmp_path, shards):
    with pytest.raises(ValueError, match=r"`shards`: no file has the number .* Pass numbers from 0 to 47"):
        tabula_sapiens(shards, cache=tmp_path, base_url=published.url)
    assert published.asked == []
