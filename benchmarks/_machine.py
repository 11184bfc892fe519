"""Description of the machine, its speed of matrix products, and the peak memory of a task."""

from __future__ import annotations

import datetime
import multiprocessing
import platform
import statistics
import time
from collections.abc import Callable
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Any

import psutil
import torch

GIB = 2**30
_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def describe() -> dict[str, str]:
    """Processor, cores, memory, versions, threads and date."""
    return {
        "processor": _processor(),
        "cores": str(psutil.cpu_count(logical=True)),
        "memory": f"{psutil.virtual_memory().total / GIB:.0f} GiB",
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "torch": f"{torch.__version__}, {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}",
        "date": datetime.date.today().isoformat(),
    }


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []
    fields: dict[str, str] = {}
    for line in lines:
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), value.strip())
    if "model name" not in fields:
        return platform.processor() or platform.machine()
    return f"{fields['model name']} (family {fields.get('cpu family')}, model {fields.get('model')})"


def wait(device: str) -> None:
    """Wait until the device has finished."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def matmul_rate(size: int = 2048, repeats: int = 5, device: str = "cpu", dtype: torch.dtype = torch.float32) -> float:
    """Operations per second of a square matrix product."""
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    return 2 * size**3 / median_seconds(lambda: torch.mm(a, b), repeats, device)


def median_seconds(function: Callable[[], Any], repeats: int, device: str = "cpu") -> float:
    """Median time of several repeats, after a warm-up."""
    seconds = []
    for _ in range(repeats + 1):
        wait(device)
        started = time.perf_counter()
        function()
        wait(device)
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds[1:])


def peak_memory(prepare: Callable[..., Callable[[], Any]], *arguments: Any) -> float:
    """Peak resident memory of a task, in bytes above that of its process before the task.

    Parameters
    ----------
    prepare
        Called in a new process with `arguments`; returns the task. What it loads is not counted. Both must be
        picklable.
    arguments
        Arguments of `prepare`.
    """
    context = multiprocessing.get_context("spawn")
    queue: Queue[float] = context.Queue()
    process = context.Process(target=_measure, args=(queue, torch.get_num_threads(), prepare, arguments))
    process.start()
    process.join()
    if process.exitcode:
        return float("nan")  # usually out of memory
    return queue.get()


def _measure(queue: Queue[float], n_threads: int, prepare: Callable[..., Callable[[], Any]], arguments: tuple) -> None:
    torch.set_num_threads(n_threads)
    task = prepare(*arguments)
    before = psutil.Process().memory_info().rss
    if _CLEAR.exists():
        _CLEAR.write_text("5")  # Linux: reset the recorded peak
    task()
    queue.put(_peak_rss() - before)


def _peak_rss() -> int:
    if _STATUS.exists():
        line = next(line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if platform.system() == "Darwin" else peak * 1024
