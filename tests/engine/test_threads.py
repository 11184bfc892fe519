"""Threads for batches: results in order, torch's threads given back, errors handed on."""

import threading

import numpy as np
import pytest
import torch

from polygene_scverse.engine import Engine, Query
from polygene_scverse.engine._threads import Threads


@pytest.fixture(params=[1, 3], ids=["alone", "threads"])
def n_threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def test_results_come_in_the_order_of_the_tasks(n_threads):
    done = threading.Event()

    def slow_first(task):
        if task == 0 and n_threads > 1:
            done.wait(10)  # until a later one has its result
        if task == 1:
            done.set()
        return -task

    with Threads.of(on_cpu=True) as threads:
        assert list(threads.map(slow_first, range(40))) == [(i, -i) for i in range(40)]
        assert list(threads.ahead(lambda task: 2 * task, range(5))) == [(i, 2 * i) for i in range(5)]


def test_batches_share_the_threads_of_torch(n_threads):
    with Threads.of(on_cpu=True) as threads:
        inside = {n for _, n in threads.map(lambda task: torch.get_num_threads(), range(20))}
        names = {name for _, name in threads.map(lambda task: threading.current_thread().name, range(20))}
    assert inside == {1}
    assert (threading.main_thread().name in names) == (n_threads == 1)
    assert torch.get_num_threads() == n_threads


def test_without_a_cpu_the_calling_thread_computes(n_threads):
    with Threads.of(on_cpu=False) as threads:
        assert [name for _, name in threads.map(lambda task: threading.current_thread(), [0])] == [
            threading.current_thread()
        ]


def test_an_error_is_handed_on_and_the_rest_is_left(n_threads):
    begun = []

    def fail(task):
        begun.append(task)
        raise KeyError("task 0")

    with pytest.raises(KeyError, match="task 0"), Threads.of(on_cpu=True) as threads:
        list(threads.map(fail, range(1000)))
    assert len(begun) < 100
    assert torch.get_num_threads() == n_threads


def test_the_engine_gives_the_same_with_threads_and_without(trained_model, source_of, logged):
    engine, source, found = Engine(trained_model.module, 4), source_of(logged), []
    before = torch.get_num_threads()
    for n in (1, 2, 5):
        torch.set_num_threads(n)
        try:
            (states,) = engine.gather(
                source, Query(), lambda b: [engine.module.states(b["tokens"], b["positions"], b["key_mask"], [0])]
            )
        finally:
            torch.set_num_threads(before)
        found.append(states)
    np.testing.assert_allclose(found[1], found[0], atol=1e-6)
    np.testing.assert_allclose(found[2], found[0], atol=1e-6)
