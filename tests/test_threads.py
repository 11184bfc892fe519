import torch

from polygene_scverse._threads import threads_kept


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
