"""Batches that make a step of the optimiser."""

import numpy as np
import pytest
import torch

from polygene_scverse.data.feed._loader import BatchDataset, LengthSampler
from polygene_scverse.data.feed._masking import MaskingRates
from polygene_scverse.data.feed._steps import StepLoader, count_asked, split_step
from polygene_scverse.module import PolygeneModule, TransformerConfig

LENGTHS = np.random.default_rng(0).poisson(30, 101)


class Loader:
    """Batches of 3 genes and 2 phenotypes, and what its sampler is told."""

    def __init__(self, sampler):
        self.sampler = sampler

    def __len__(self):
        return len(self.sampler)

    def __iter__(self):
        for epoch, rows in self.sampler:
            yield make_batch(epoch, rows)


def make_batch(epoch, rows):
    bins = torch.from_numpy(np.stack([rows % 3 - 1, rows % 4 - 1, rows % 2 - 1], axis=1))
    codes = torch.from_numpy(np.stack([rows % 3 - 1, rows % 5 - 1], axis=1))
    hidden = torch.from_numpy(np.stack([rows % 2 == 0, rows % 7 > 0], axis=1))
    name = {"target_bins": bins, "phenotypes": codes, "phenotype_hidden": hidden}
    return {"epoch": epoch, "rows": rows, **name}


def loader_of(parts=1, start=(0, 0), batch_size=16, **kwargs):
    return StepLoader(
        Loader(LengthSampler(LENGTHS, batch_size, shuffle=True, parts=parts, **kwargs)), parts=parts, start=start
    )


def rows_of(loader):
    return [batch["rows"].tolist() for batch in loader]


def test_counts_by_hand():
    batch = {
        "target_bins": torch.tensor([[0, 3, -1], [2, -1, -1]]),
        "phenotypes": torch.tensor([[0, 1], [-1, 2]]),
        "phenotype_hidden": torch.tensor([[True, False], [True, True]]),
    }
    assert count_asked(batch).tolist() == [3, 1, 1]


def test_counts_are_those_of_the_module(table):
    module = PolygeneModule(table.layout, TransformerConfig(n_hidden=16, n_layers=1, n_heads=2))
    batch = BatchDataset(table, MaskingRates())[0, np.arange(40)]
    assert count_asked(batch).tolist() == module.count_targets(batch).tolist()


@pytest.mark.parametrize(("n_ranks", "parts"), [(1, 1), (2, 1), (1, 3), (2, 3)])
@pytest.mark.parametrize("n", [0, 1, 5, 17])
def test_a_step_is_split_among_processes_and_parts(n, n_ranks, parts):
    rows = np.random.default_rng(0).permutation(n)
    pieces = [piece for rank in range(n_ranks) for piece in split_step(rows, rank, n_ranks, parts)]
    assert len(pieces) == n_ranks * parts
    np.testing.assert_array_equal(np.sort(np.concatenate(pieces)), np.arange(n))
    sizes = [len(piece) for piece in pieces]
    assert max(sizes) - min(sizes) <= 1


def test_steps_have_the_same_cells_in_any_number_of_parts():
    whole, parts = rows_of(loader_of()), rows_of(loader_of(parts=3))
    assert (len(whole), len(parts)) == (7, 21) == (len(loader_of()), len(loader_of(parts=3)))
    for i, rows in enumerate(whole):
        assert sorted(row for part in parts[3 * i : 3 * i + 3] for row in part) == sorted(rows)


def test_each_batch_is_told_the_mean_of_its_step():
    batches = list(loader_of(parts=3))
    for i in range(7):
        step = batches[3 * i : 3 * i + 3]
        expected = np.mean([count_asked(batch).numpy() for batch in step], axis=0)
        for batch in step:
            np.testing.assert_allclose(batch["denominators"], expected, rtol=1e-6)
            assert batch["denominators"].dtype == torch.float32


def test_a_batch_that_is_a_step_is_told_nothing():
    assert all("denominators" not in batch for batch in loader_of())


def test_a_step_that_breaks_off_counts_its_batches_over_all():
    """Gradients of the last step, too, are divided by the number of parts."""

    class Seven(Loader):
        def __iter__(self):
            return (make_batch(0, np.arange(3)) for _ in range(7))

    batches = list(StepLoader(Seven(LengthSampler(LENGTHS, 16, parts=3)), parts=3))
    of_one = count_asked(batches[0]).float()
    assert len(batches) == 7
    torch.testing.assert_close(batches[5]["denominators"], of_one)
    torch.testing.assert_close(batches[6]["denominators"], of_one / 3)


@pytest.mark.parametrize("parts", [1, 2])
def test_it_begins_in_the_middle_of_an_epoch_and_then_at_the_beginning(parts):
    loader, plain = loader_of(parts, start=(2, 4)), loader_of(parts)
    for epoch in (2, 2, 3):
        loader.set_epoch(epoch)
        plain.set_epoch(epoch)
        skipped = 4 * parts if epoch == 2 else 0
        assert rows_of(loader) == rows_of(plain)[skipped:]
        assert {batch["epoch"] for batch in loader} == {epoch}


def test_its_length_is_that_of_an_epoch_wherever_it_begins():
    assert len(loader_of(start=(0, 4))) == 7


def test_the_epoch_that_counts_is_that_of_the_first_batch():
    """Lightning makes the iterator before it says the epoch, and workers of a loader read ahead."""
    loader = loader_of()
    iterator = iter(loader)
    loader.sampler.set_epoch(5)
    assert next(iterator)["epoch"] == 5
