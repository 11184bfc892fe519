"""Everything is downloaded from a server on this machine."""

import hashlib
import os
import re
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pooch
import pytest
import requests

from polygene_scverse.datasets._download import CHUNK, _save, cache_folder, download
from polygene_scverse.datasets._registry import Download

BODY = np.random.default_rng(0).bytes(5 * CHUNK + 7)
OTHER = np.random.default_rng(1).bytes(4 * CHUNK)
ENTRY = Download("cells", "folder/cells.h5ad", "https://nowhere.invalid", "some/cells.h5ad", "none", "none")
ADDRESS = "/some/cells.h5ad"


@pytest.fixture
def get(server, tmp_path):
    """Download the file of ENTRY, which the server has, to the test's cache."""
    server.files[ADDRESS] = BODY
    return lambda: download(ENTRY, cache=tmp_path, base_url=server.url)


@pytest.fixture
def path(tmp_path):
    """Where the file belongs."""
    return tmp_path.resolve() / "folder" / "cells.h5ad"


@pytest.fixture
def part(path):
    """What an earlier try has left: the first two chunks of the file."""
    path.parent.mkdir()
    part = path.with_name("cells.h5ad.part")
    part.write_bytes(BODY[: 2 * CHUNK])
    return part


def names(path):
    return {file.name for file in path.parent.iterdir()} - {"cells.h5ad.lock"}


def test_complete(get, path):
    assert get() == path
    assert path.read_bytes() == BODY
    assert names(path) == {"cells.h5ad", "cells.h5ad.sha256"}
    record = path.with_name("cells.h5ad.sha256").read_text()
    assert record == f"{hashlib.sha256(BODY).hexdigest()}  cells.h5ad\n"


def test_cached_file_contacts_nothing(get, server):
    assert get() == get()
    assert server.asked == [(ADDRESS, None)]


def test_truncated_then_resumed(get, server, path):
    server.ends_after = 3 * CHUNK
    with pytest.raises(
        ConnectionError, match=rf"{3 * CHUNK} bytes are in cells.h5ad.part; a new attempt resumes there"
    ):
        get()
    assert names(path) == {"cells.h5ad.part"}
    server.ends_after = None
    assert get().read_bytes() == BODY
    assert server.asked == [(ADDRESS, None), (ADDRESS, f"bytes={3 * CHUNK}-")]
    assert names(path) == {"cells.h5ad", "cells.h5ad.sha256"}


def test_resumed_file_is_what_was_there_and_the_rest(get, part):
    """The first bytes are not asked for again: had they changed here, they would stay changed."""
    part.write_bytes(OTHER[: 2 * CHUNK])
    assert get().read_bytes() == OTHER[: 2 * CHUNK] + BODY[2 * CHUNK :]


def ignores_range(server, part):
    server.ranges = False


def sends_another_part(server, part):
    server.shift = 1


def has_changed_since(server, part):
    server.modified = part.stat().st_mtime + 60


def has_no_such_rest(server, part):
    part.write_bytes(BODY + BODY)


@pytest.mark.parametrize(
    ("trouble", "n_requests"),
    [(ignores_range, 1), (sends_another_part, 2), (has_changed_since, 2), (has_no_such_rest, 2)],
)
def test_starts_again_when_the_rest_cannot_be_had(get, server, part, trouble, n_requests):
    part.write_bytes(OTHER)  # would show up in the file, were it gone on with
    trouble(server, part)
    assert get().read_bytes() == BODY
    assert len(server.asked) == n_requests


def test_resumes_a_file_that_has_not_changed_since(get, server, part):
    server.modified = part.stat().st_mtime - 60
    assert get().read_bytes() == BODY
    assert server.asked == [(ADDRESS, f"bytes={2 * CHUNK}-")]


@pytest.mark.parametrize(
    ("head", "shown"),
    [("<title>\nDrive - Quota exceeded</title>", r" \('Drive - Quota exceeded'\)"), ("", "")],
    ids=["title", "no title"],
)
def test_web_page(get, server, path, part, head, shown):
    server.content_type = "text/html; charset=utf-8"
    server.files[ADDRESS] = f"<html><head>{head}</head></html>".encode()
    server.ranges = False
    message = f"sent a web page{shown} instead of the file.*save the file here: "
    with pytest.raises(ConnectionError, match=message + re.escape(str(path)) + "$"):
        get()
    assert part.read_bytes() == BODY[: 2 * CHUNK]
    assert names(path) == {"cells.h5ad.part"}


def test_not_found(get, server, path):
    server.files.clear()
    with pytest.raises(ConnectionError, match=f"404.*put the file here: {re.escape(str(path))}$"):
        get()
    assert names(path) == set()


def test_offline_says_which_file_to_put_where(server, tmp_path, path):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # and nobody listens
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        with pytest.raises(ConnectionError, match=f"^{url}{ADDRESS} could not be .*{re.escape(str(path))}$"):
            download(ENTRY, cache=tmp_path, base_url=url)
    path.write_bytes(OTHER)
    assert download(ENTRY, cache=tmp_path, base_url=url) == path
    assert path.with_name("cells.h5ad.sha256").read_text().startswith(hashlib.sha256(OTHER).hexdigest())


def test_tampered_file(get, path):
    get().write_bytes(OTHER)
    found, recorded = hashlib.sha256(OTHER).hexdigest(), hashlib.sha256(BODY).hexdigest()
    message = f"its sha256 is {found}, but {recorded} is recorded in cells.h5ad.sha256. Delete the file"
    with pytest.raises(ValueError, match=message):
        get()
    path.unlink()
    assert get().read_bytes() == BODY


def test_another_file_at_the_same_address(get, server, path):
    get().unlink()
    server.files[ADDRESS] = OTHER
    with pytest.raises(ValueError, match="differs from the file that was first used"):
        get()
    path.with_name("cells.h5ad.sha256").unlink()
    assert get().read_bytes() == OTHER


def test_empty_record_is_written_anew(get, path):
    get()
    record = path.with_name("cells.h5ad.sha256")
    before = record.read_text()
    record.write_text("")
    get()
    assert record.read_text() == before


def test_at_the_same_time(get, server):
    with ThreadPoolExecutor(4) as pool:
        paths = [future.result() for future in [pool.submit(get) for _ in range(4)]]
    assert len(set(paths)) == 1
    assert paths[0].read_bytes() == BODY
    assert server.asked == [(ADDRESS, None)]


def test_short_answer_that_raised_nothing(part):
    """Older versions of urllib3 end without an error where the connection breaks."""
    response = SimpleNamespace(headers={"Content-Length": "10"}, iter_content=lambda size: [b"1234", b"567"])
    with pytest.raises(requests.ConnectionError, match="it ended after 7 of 10 bytes"):
        _save(response, part, 0)
    assert part.read_bytes() == b"1234567"


def test_progress_is_shown(get, part, capsys):
    get()
    assert re.search(r"cells\.h5ad .*327\.7/327\.7 kB", capsys.readouterr().err)


def test_empty_part(get, server, part):
    part.write_bytes(b"")
    assert get().read_bytes() == BODY
    assert server.asked == [(ADDRESS, None)]


def test_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("POLYGENE_CACHE", str(tmp_path / "of the environment"))
    assert cache_folder() == tmp_path.resolve() / "of the environment"
    assert cache_folder(tmp_path / "argument") == tmp_path.resolve() / "argument"
    assert cache_folder("~/here") == Path(os.path.expanduser("~/here")).resolve()
    monkeypatch.delenv("POLYGENE_CACHE")
    assert cache_folder() == Path(pooch.os_cache("polygene")).resolve()
