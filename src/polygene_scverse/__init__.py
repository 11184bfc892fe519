"""Polygene for AnnData: phenotypes and embeddings of single cells from a masked transformer."""

from importlib.metadata import version as _version

from polygene_scverse import datasets, get, metrics, model, module, pl, pp, tl

__version__ = _version("polygene-scverse")
__all__ = ["datasets", "get", "metrics", "model", "module", "pl", "pp", "tl"]
