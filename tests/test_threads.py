from dataclasses import dataclass

import pytest
import scipy.linalg  # noqa: F401 (its library is loaded)
import torch
from threadpoolctl import ThreadpoolController

from polygene_scverse import _threads
from polygene_scverse._threads import one_blas_pool, threads_kept


def test_a_changed_number_of_threads_is_given_back():
    before = torch.get_num_threads()
    with threads_kept():
        torch.set_num_threads(before + 1)
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before


def test_it_is_given_back_after_an_error():
    before = torch.get_num_threads()
    try:
        with threads_kept():
            torch.set_num_threads(before + 1)
            raise KeyError
    except KeyError:
        pass
    assert torch.get_num_threads() == before


@dataclass
class Library:
    filepath: str
    user_api: str = "blas"
    num_threads: int = 4

    def set_num_threads(self, n):
        self.num_threads = n


NUMPY, SCIPY = "/env/site-packages/numpy.libs/libscipy_openblas64_.so", "/env/site-packages/scipy.libs/libopenblas.so"


@pytest.fixture
def libraries(monkeypatch):
    found = [Library(NUMPY), Library(SCIPY), Library("/env/site-packages/torch/lib/libgomp.so.1", "openmp")]
    monkeypatch.setattr(_threads.ThreadpoolController, "__init__", lambda self: None)
    monkeypatch.setattr(_threads.ThreadpoolController, "lib_controllers", found, raising=False)
    return found


def test_only_libraries_besides_that_of_numpy_are_limited(libraries):
    try:
        with one_blas_pool():
            assert [library.num_threads for library in libraries] == [4, 1, 4]
            raise KeyError
    except KeyError:
        pass
    assert [library.num_threads for library in libraries] == [4, 4, 4]


def test_the_last_block_restores_the_threads(libraries):
    first, second = one_blas_pool(), one_blas_pool()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert libraries[1].num_threads == 1
    second.__exit__(None, None, None)
    assert libraries[1].num_threads == 4


def test_a_shared_library_keeps_its_threads(libraries):
    libraries[:2] = [Library("/env/lib/libopenblas.so.0")]
    with one_blas_pool():
        assert libraries[0].num_threads == 4


def test_the_libraries_of_this_environment_are_recognised():
    before = {library.filepath: library.num_threads for library in ThreadpoolController().lib_controllers}
    with one_blas_pool():
        for library in ThreadpoolController().lib_controllers:
            of_scipy = library.user_api == "blas" and "scipy.libs" in library.filepath
            assert library.num_threads == (1 if of_scipy else before[library.filepath])
    assert {library.filepath: library.num_threads for library in ThreadpoolController().lib_controllers} == before
