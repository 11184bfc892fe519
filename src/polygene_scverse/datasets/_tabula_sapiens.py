"""The cells the original was trained on."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from polygene_scverse._validate import shorten
from polygene_scverse.datasets._download import download
from polygene_scverse.datasets._registry import N_SHARDS, TABULA_SAPIENS


def tabula_sapiens(
    shards: Iterable[int] | None = None, *, cache: str | Path | None = None, base_url: str | None = None
) -> list[Path]:
    """The 48 files of Tabula Sapiens that the original Polygene was trained on, downloaded when first asked for.

    The original trains on files 0 to 46 and evaluates on file 47. All of them together are large: ask for the ones you
    need. Interrupted downloads are resumed; the first download of a file is trusted, and its sha256 recorded.

    Parameters
    ----------
    shards
        Numbers of the files, from 0 to 47; by default all.
    cache
        Folder of the downloads; by default that of the environment variable ``POLYGENE_CACHE``, or else the cache
        folder of the user.
    base_url
        Where to download from; by default where the original published the files.

    Returns
    -------
    Paths of the h5ad files, in the order asked for.

    Raises
    ------
    ValueError
        If there is no such file, or a file is not the one whose sha256 was recorded.
    ConnectionError
        If a file cannot be downloaded; the error says which file to put where instead.

    References
    ----------
    The Tabula Sapiens Consortium: The Tabula Sapiens. A multiple-organ, single-cell transcriptomic atlas of humans.
    Science 2022.

    Examples
    --------
    >>> train, evaluate = pgs.datasets.tabula_sapiens(range(47)), pgs.datasets.tabula_sapiens([47])
    """
    wanted = range(N_SHARDS) if shards is None else list(shards)
    if wrong := [i for i in wanted if i not in range(N_SHARDS)]:
        raise ValueError(f"`shards`: no file has the number {shorten(wrong)}. Pass numbers from 0 to {N_SHARDS - 1}.")
    return [download(TABULA_SAPIENS[i], cache=cache, base_url=base_url) for i in wanted]
