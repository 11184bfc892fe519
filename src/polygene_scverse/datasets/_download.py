"""Download files on first use and verify them on each use."""

from __future__ import annotations

import os
import re
from email.utils import formatdate
from functools import partial
from pathlib import Path
from typing import Any

import pooch
import requests
from filelock import FileLock
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from polygene_scverse.datasets._registry import Download

CACHE_VARIABLE = "POLYGENE_CACHE"
"""Environment variable with the cache folder."""
CHUNK = 2**16
"""Bytes per write, the maximum that is lost if the connection breaks."""
TIMEOUT = (10, 60)
"""Timeouts in seconds: to connect, and between two parts of a response."""
PARTIAL = (206, 412, 416)
"""Status codes of responses to a range request: partial content, the file has changed, no such range."""


def download(entry: Download, *, cache: str | Path | None = None, base_url: str | None = None) -> Path:
    """Return a file of the registry from the cache, and download it if it is missing.

    An interrupted download is kept in ``<file>.part`` and resumed by the next call. The sha256 of the file is written
    to ``<file>.sha256`` on first use and verified on each later use. Processes that download the same file at the same
    time wait for each other.

    Parameters
    ----------
    entry
        Entry of the registry.
    cache
        Download folder; by default the environment variable ``POLYGENE_CACHE``, or the user's cache folder.
    base_url
        URL to download from; by default where the file was published.

    Returns
    -------
    Path of the file.

    Raises
    ------
    ConnectionError
        If the file cannot be downloaded, is truncated, or a web page is sent instead.
    ValueError
        If the sha256 of the file differs from the recorded one.
    """
    path = cache_folder(cache) / entry.file
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(beside(path, ".lock")):
            _fetch(entry.url(base_url), path)
    check_hash(path)
    return path


def cache_folder(cache: str | Path | None = None) -> Path:
    """Download folder: the argument, the environment variable, or the user's cache folder."""
    return Path(cache or os.environ.get(CACHE_VARIABLE) or pooch.os_cache("polygene")).expanduser().resolve()


def beside(path: Path, ending: str) -> Path:
    """Append a suffix to the name of a path."""
    return path.with_name(path.name + ending)


def recorded_hash(path: Path) -> str:
    """The sha256 recorded on first use of a file, empty if none was recorded."""
    record = beside(path, ".sha256")
    return record.read_text().partition(" ")[0] if record.exists() else ""


def check_hash(path: Path) -> None:
    """Compare the sha256 of a file with the recorded one, or record it on first use."""
    record = beside(path, ".sha256")
    found, recorded = pooch.file_hash(str(path)), recorded_hash(path)
    if not recorded:
        record.write_text(f"{found}  {path.name}\n")  # the format of sha256sum
    elif recorded != found:
        raise ValueError(
            f"{path} differs from the file that was first used: its sha256 is {found}, but {recorded} is recorded in "
            f"{record.name}. Delete the file to download it again; or delete {record.name} to accept the file as it is."
        )


def _fetch(url: str, path: Path) -> None:
    """Download a file with pooch, unless another process has done so in the meantime."""
    store = pooch.create(path=path.parent, base_url="", registry={path.name: None}, urls={path.name: url})
    store.fetch(path.name, downloader=partial(_resume, path))


def _resume(path: Path, url: str, output_file: str, pooch: Any = None) -> None:
    """Download to ``<file>.part``, resuming an earlier attempt, and finally move it to `output_file`."""
    part = beside(path, ".part")
    try:
        _transfer(url, part)
    except requests.RequestException as error:
        kept = f" {part.stat().st_size} bytes are in {part.name}; a new attempt resumes there." if part.exists() else ""
        raise ConnectionError(
            f"{url} could not be downloaded: {error}.{kept} Try again, or download it elsewhere and put the file "
            f"here: {path}"
        ) from error
    os.replace(part, output_file)


def _transfer(url: str, part: Path) -> None:
    """Append the missing part to `part`, or rewrite it if the server does not support ranges."""
    start = part.stat().st_size if part.exists() else 0
    headers = {"Accept-Encoding": "identity"}
    if start:
        headers |= {"Range": f"bytes={start}-", "If-Unmodified-Since": formatdate(part.stat().st_mtime, usegmt=True)}
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
        is_rest = response.headers.get("Content-Range", "").startswith(f"bytes {start}-")
        if not (start and response.status_code in PARTIAL) or is_rest:
            response.raise_for_status()
            _refuse_page(response, part)
            return _save(response, part, start if is_rest else 0)
    part.unlink()
    return _transfer(url, part)


def _refuse_page(response: requests.Response, part: Path) -> None:
    """Raise an error for a web page, such as Google Drive's "too many users have downloaded this file"."""
    if "text/html" not in response.headers.get("Content-Type", "").lower():
        return
    title = re.search(r"<title>(.*?)</title>", response.text, re.DOTALL | re.IGNORECASE)
    raise ConnectionError(
        f"{response.url} sent a web page{f' ({title[1].strip()!r})' if title else ''} instead of the file, as Google "
        "Drive does to ask for confirmation, or after too many downloads. Try again tomorrow, or open that address in "
        f"a browser and save the file here: {part.with_suffix('')}"
    )


def _save(response: requests.Response, part: Path, start: int) -> None:
    """Write a response after the first `start` bytes of `part`."""
    length = response.headers.get("Content-Length")
    total = None if length is None else start + int(length)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    bar = Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True))
    with part.open("ab" if start else "wb") as file, bar:
        task = bar.add_task(part.stem, completed=start, total=total)
        for block in response.iter_content(CHUNK):
            file.write(block)
            bar.advance(task, len(block))
    if total is not None and part.stat().st_size != total:
        raise requests.ConnectionError(f"it ended after {part.stat().st_size} of {total} bytes")
