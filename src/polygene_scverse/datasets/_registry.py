"""Registry of data sets with source, checksum, shape, licence and citation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

GOOGLE_DRIVE: Final = "https://drive.usercontent.google.com"
TABULA_SAPIENS_URL: Final = "https://pub-8978012207224952a747e641910bcb1c.r2.dev/ranked"
N_SHARDS: Final = 48


@dataclass(frozen=True)
class DataSet:
    """Entry of the registry of data sets.

    Parameters
    ----------
    name
        Name of the function of :mod:`polygene_scverse.datasets` that returns it.
    source
        URL of the file, or the function that provides it, as ``"package.module.function"``.
    file
        Name of the file.
    sha256
        Checksum of the file. For a file from another package, it applies to the versions in `versions`.
    versions
        Versions of the package that include exactly this file; empty for a URL.
    shape
        Number of cells and genes.
    phenotypes
        Obs columns that are learned by default.
    licence
        Licence of the data.
    citation
        Reference to cite.
    """

    name: str
    source: str
    file: str
    sha256: str
    versions: str
    shape: tuple[int, int]
    phenotypes: tuple[str, ...]
    licence: str
    citation: str


_DATA_SETS = (
    DataSet(
        name="pbmc68k",
        source="scanpy.datasets.pbmc68k_reduced",
        file="10x_pbmc68k_reduced.h5ad",
        sha256="e71d41e737c941559b7c57c9243bdb3d2c889c2adfdf00e3422ac6b46783676f",
        versions=">=1.10,<1.12",
        shape=(700, 765),
        phenotypes=("bulk_labels", "phase"),
        licence="CC BY 4.0 (10x Genomics); the file: BSD-3-Clause (scanpy)",
        citation="Zheng et al., Massively parallel digital transcriptional profiling of single cells, "
        "Nature Communications 8, 14049 (2017), https://doi.org/10.1038/ncomms14049",
    ),
)

REGISTRY: Final[dict[str, DataSet]] = {data_set.name: data_set for data_set in _DATA_SETS}
"""Data sets by name."""


@dataclass(frozen=True)
class Download:
    """File to download. Its checksum was not published, so it is recorded on first use.

    Parameters
    ----------
    name
        Name of the file.
    file
        Path of the file in the cache folder.
    base_url
        URL of the folder in which it was published.
    address
        Path of the file relative to the base URL.
    licence
        Licence of the file.
    citation
        Reference to cite.
    """

    name: str
    file: str
    base_url: str
    address: str
    licence: str
    citation: str

    def url(self, base_url: str | None = None) -> str:
        """URL of the file, where it was published or at another base URL."""
        return f"{(base_url or self.base_url).rstrip('/')}/{self.address}"


def _pretrained(n_genes: int, drive_id: str) -> Download:
    return Download(
        name=f"Polygene ({n_genes})",
        file=f"pretrained/polygene_{n_genes}",
        base_url=GOOGLE_DRIVE,
        address=f"download?id={drive_id}&export=download&confirm=t",
        licence="MIT (the repository that links it: roholazandie/polygene)",
        citation="Khodaee, Zandie and Edelman, Multimodal learning for mapping genotype-phenotype dynamics, "
        "Nature Computational Science (2025); preprint https://doi.org/10.21203/rs.3.rs-4355413/v1",
    )


def _shard(i: int) -> Download:
    file = f"Tabula_Sapiens_ranked_{i}.h5ad"
    return Download(
        name=file,
        file=f"tabula_sapiens/{file}",
        base_url=TABULA_SAPIENS_URL,
        address=file,
        licence="CC BY 4.0 (The Tabula Sapiens Consortium)",
        citation="The Tabula Sapiens Consortium, The Tabula Sapiens: A multiple-organ, single-cell transcriptomic "
        "atlas of humans, Science 376, eabl4896 (2022), https://doi.org/10.1126/science.abl4896",
    )


_MODELS = (
    _pretrained(2432, "1jmtOS3QfOpiGPE2OSsa_fQoiJfRntUcu"),
    _pretrained(512, "1Zj1OilSb4Dzoitx-Ycl7lrUgIo2VLbA0"),
)

PRETRAINED: Final[dict[str, Download]] = {entry.name: entry for entry in _MODELS}
"""Published models of the original, by name."""
TABULA_SAPIENS: Final[tuple[Download, ...]] = tuple(_shard(i) for i in range(N_SHARDS))
"""Published shards of Tabula Sapiens, in order."""
