"""Published models of the original Polygene."""

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
    """Download a published model of the original Polygene.

    The model is downloaded on first use, and interrupted downloads are resumed. The authors do not publish checksums,
    so the first download is trusted; its sha256 is recorded and verified on each later use. An archive is unpacked next
    to the file.

    Parameters
    ----------
    name
        ``"Polygene (2432)"`` or ``"Polygene (512)"``, as named by its authors; the number is the number of genes.
    cache
        Download folder; by default the environment variable ``POLYGENE_CACHE``, or the user's cache folder.
    base_url
        URL to download from; by default Google Drive, where the models were published.

    Returns
    -------
    Path of the folder with ``config.json``, to pass to :meth:`polygene_scverse.model.Polygene.from_original`. If the
    archive does not contain exactly one such folder, the unpacked folder; if the download is not an archive, the file.

    Raises
    ------
    ValueError
        If the model is unknown, or the sha256 of the file differs from the recorded one.
    ConnectionError
        If the file cannot be downloaded; the error says how to download it by hand.

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
    """Type of an archive, None for other files. Weights saved by torch are also zip files, but count as one file."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as file:
            is_weights = any(name.endswith("/data.pkl") for name in file.namelist())
        return None if is_weights else "zip"
    return "tar" if tarfile.is_tarfile(path) else None


def _unpack(path: Path, folder: Path, kind: str) -> None:
    """Unpack into a folder that gets its name when it is complete; no file can be written outside of it."""
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        unpacked = Path(scratch) / folder.name
        unpacked.mkdir()
        if kind == "zip":
            shutil.unpack_archive(path, unpacked, format="zip")  # skips names that lead outside
        else:
            shutil.unpack_archive(path, unpacked, format="tar", filter="data")
        unpacked.rename(folder)
