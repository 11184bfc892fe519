"""Compute small batches in parallel threads, instead of using many threads for each small operation."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self, TypeVar

import torch

Task = TypeVar("Task")
Result = TypeVar("Result")
MOST: Final = 4
"""Maximum number of batches computed at once; more would wait for Python's global interpreter lock."""
AHEAD: Final = 4
"""Batches queued for each thread."""


@dataclass
class Threads:
    """Threads for the batches, which share torch's threads, and one for reading; none if torch has a single thread.

    Parameters
    ----------
    n_threads
        Number of torch threads at the start, restored on exit.
    compute, read
        Pools for batches and for reading; None to use the calling thread.
    """

    n_threads: int
    compute: ThreadPoolExecutor | None = None
    read: ThreadPoolExecutor | None = None

    @classmethod
    def of(cls, on_cpu: bool) -> Self:
        """Use as many threads as torch has, on a CPU only."""
        n_threads = torch.get_num_threads()
        n = min(n_threads, MOST) if on_cpu else 1
        if n < 2:
            return cls(n_threads)
        compute = ThreadPoolExecutor(n, initializer=torch.set_num_threads, initargs=(n_threads // n,))
        return cls(n_threads, compute, ThreadPoolExecutor(1))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for pool in (self.read, self.compute):
            if pool is not None:
                pool.shutdown(cancel_futures=True)
        if self.compute is not None:
            torch.set_num_threads(self.n_threads)

    def map(self, function: Callable[[Task], Result], tasks: Iterable[Task]) -> Iterator[tuple[Task, Result]]:
        """Yield each task and its result, in the order of the tasks; some results are computed in advance."""
        limit = 0 if self.compute is None else AHEAD * self.compute._max_workers
        return _map(function, tasks, self.compute, limit)

    def ahead(self, function: Callable[[Task], Result], tasks: Iterable[Task]) -> Iterator[tuple[Task, Result]]:
        """Yield each task and its result, in the order of the tasks; the next result is computed in the meantime."""
        return _map(function, tasks, self.read, 1)


def _map(
    function: Callable[[Task], Result], tasks: Iterable[Task], pool: ThreadPoolExecutor | None, limit: int
) -> Iterator[tuple[Task, Result]]:
    if pool is None:
        for task in tasks:
            yield task, function(task)
        return
    waiting: deque[tuple[Task, Future[Result]]] = deque()
    for task in tasks:
        waiting.append((task, pool.submit(function, task)))
        if len(waiting) > limit:
            first, future = waiting.popleft()
            yield first, future.result()
    for task, future in waiting:
        yield task, future.result()
