"""Polygene for AnnData: phenotypes and embeddings of single cells from a masked transformer."""

from importlib import import_module as _import_module
from importlib.metadata import version as _version
from types import ModuleType as _ModuleType
from typing import TYPE_CHECKING as _TYPE_CHECKING

if _TYPE_CHECKING:
    from polygene_scverse import datasets, get, metrics, model, module, pl, pp, tl

__version__ = _version("polygene-scverse")
__all__ = ["datasets", "get", "metrics", "model", "module", "pl", "pp", "tl"]


def __getattr__(name: str) -> _ModuleType:
    """Import a package at first use, so that commands that only print their help do not import torch."""
    if name in __all__:
        return _import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
