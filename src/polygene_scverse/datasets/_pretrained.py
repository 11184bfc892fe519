"""The published models of the original."""

from __future__ import annotations

import shutil
import tarfile
import tempfile
import zipfile
from pathlib import Path

from filelock import FileLock

from polygene_scverse._validate import check_choice
from polygene_scverse.datasets._download import beside, download, recorded_hash
from polygene_scverse.datasets._registry import PRETRAINED


def pretrained(name: str, *, cache: str | Path | None = None, base_url: str | None = None) -> Path:
    """A published model of the original Polygene, downloaded on first use.

    Interrupted downloads are resumed. The authors do not publish checksums, so the first download is trusted; its
    sha256 is recorded and compared at each later use. An archive is unpacked beside the file.

    Parameters
    ----------
    name
        ``"Polygene (2432)"`` or ``"Polygene (512)"``, as the original calls them; the number is that of the genes.
    cache
        Folder of the downloads; by default that of the environment variable ``POLYGENE_CACHE``, or else the cache
        folder of the user.
    base_url
        Where to download from; by default Google Drive, where the original published them.

    Returns
    -------
    Folder that holds ``config.json``, to be passed to :meth:`polygene_scverse.model.Polygene.from_original`; or the
    whole unpacked folder where it does not hold exactly one; or the file where it is not an archive.

    Raises
    ------
    ValueError
        If there is no such model, or the file is not the one whose sha256 was recorded.
    ConnectionError
        If the file cannot be downloaded; the error says which file to put where instead.

    References
    ----------
    Khodaee, Zandie and Edelman: Multimodal learning for mapping genotype-phenotype dynamics. Nature Computational
    Science 2025.

    Examples
    --------
    >>> folder = pgs.datasets.pretrained("Polygene (512)")
    """
    check_choice(name, list(PRETRAINED), "name")
    path = download(PRETRAINED[name], cache=cache, base_url=base_url)
    kind = _archive(path)
    if kind is None:
        return path
    folder = beside(path, f"-{recorded_hash(path)[:8]}")
    with FileLock(beside(path, ".lock")):
        if not folder.exists():
            _unpack(path, folder, kind)
    configs = list(folder.rglob("config.json"))
    return configs[0].parent if len(configs) == 1 else folder


def _archive(path: Path) -> str | None:
    """Kind of the archive, None where it is another file. The weights that torch saves are a zip too, but one file."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as file:
            is_weights = any(name.endswith("/data.pkl") for name in file.namelist())
        return None if is_weights else "zip"
    return "tar" if tarfile.is_tarfile(path) else None


def _unpack(path: Path, folder: Path, kind: str) -> None:
    """Unpack into a folder that appears under its name when all is there; nothing can land outside of it."""
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        unpacked = Path(scratch) / folder.name
        unpacked.mkdir()
        if kind == "zip":
            shutil.unpack_archive(path, unpacked, format="zip")  # leaves out names that lead outside
        else:
            shutil.unpack_archive(path, unpacked, format="tar", filter="data")
        unpacked.rename(folder)
