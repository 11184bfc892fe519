"""Training data of the original Polygene."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from polygene_scverse._validate import shorten
from polygene_scverse.datasets._download import download
from polygene_scverse.datasets._registry import N_SHARDS, TABULA_SAPIENS


def tabula_sapiens(
    shards: Iterable[int] | None = None, *, cache: str | Path | None = None, base_url: str | None = None
) -> list[Path]:
    """Download the files of Tabula Sapiens that the original Polygene was trained on.

    The original was trained on files 0 to 46 and evaluated on file 47. Together they are large, so download only those
    you need. Files are downloaded on first use, and interrupted downloads are resumed. The first download of a file is
    trusted and its sha256 is recorded.

    Parameters
    ----------
    shards
        Numbers of the files, from 0 to 47; by default all.
    cache
        Download folder; by default the environment variable ``POLYGENE_CACHE``, or the user's cache folder.
    base_url
        URL to download from; by default where the files were published.

    Returns
    -------
    List of paths of the h5ad files, in the order of `shards`.

    Raises
    ------
    ValueError
        If a number is out of range, or the sha256 of a file differs from the recorded one.
    ConnectionError
        If a file cannot be downloaded; the error says how to download it by hand.

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
