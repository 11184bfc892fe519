"""Restore thread settings that other packages change.

scanpy's compiled loops set the number of OpenMP threads of the whole process permanently. Torch then uses more threads
than requested, and if several processes share a machine, they wait for each other in busy loops.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from threadpoolctl import ThreadpoolController


@contextmanager
def threads_kept() -> Iterator[None]:
    """Restore the number of threads of every thread pool at the end."""
    before = {(lib["filepath"], lib["prefix"]): lib["num_threads"] for lib in ThreadpoolController().info()}
    try:
        yield
    finally:
        for lib in ThreadpoolController().lib_controllers:
            if (n := before.get((lib.filepath, lib.prefix))) is not None and lib.num_threads != n:
                lib.set_num_threads(n)
