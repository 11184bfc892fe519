"""Thread pools of other packages.

Idle threads wait in busy loops for some time, so more threads than cores slow each other down, within a process and, if
a machine is shared, between processes. scanpy's compiled loops set the number of OpenMP threads of the whole process
permanently; numpy and scipy each bring a linear algebra library with its own threads.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from threadpoolctl import ThreadpoolController

_LOCK = threading.Lock()
_LIMITED: list[tuple[Any, int]] = []
"""Libraries that are limited to one thread, with their number of threads before."""
_USERS = [0]
"""Number of blocks of code in which they are limited."""


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


@contextmanager
def one_blas_pool() -> Iterator[None]:
    """Limit linear algebra libraries other than numpy's to one thread, such as the one that scipy brings.

    Large matrix products use numpy's library; those in scipy are too small for several threads. Several threads of the
    program may be in such a block; the last one to leave restores the numbers.
    """
    with _LOCK:
        if not _USERS[0]:
            _LIMITED[:] = [(library, library.num_threads) for library in _other_blas()]
            for library, _ in _LIMITED:
                library.set_num_threads(1)
        _USERS[0] += 1
    try:
        yield
    finally:
        with _LOCK:
            _USERS[0] -= 1
            if not _USERS[0]:
                for library, n in _LIMITED:
                    library.set_num_threads(n)


def _other_blas() -> list[Any]:
    """Linear algebra libraries in use besides numpy's; none if numpy's is not among them, as with a shared one."""
    found = [library for library in ThreadpoolController().lib_controllers if library.user_api == "blas"]
    others = [library for library in found if not {"numpy", "numpy.libs"} & set(Path(library.filepath).parts)]
    return others if len(others) < len(found) else []
