from types import SimpleNamespace

import numpy as np
import pytest
import torch

from polygene_scverse.data.feed._batch import make_batch
from polygene_scverse.data.feed._loader import WINDOW, BatchDataset, CellSplitter, LengthSampler, make_loader
from polygene_scverse.data.feed._masking import MaskingRates, draw
from polygene_scverse.data.feed._table import CellTable

N = 1009
LENGTHS = np.random.default_rng(0).poisson(np.random.default_rng(1).gamma(3.0, 30.0, N))
KEYS = ["cell_type", "sex"]


def orders(sampler, epoch=0):
    sampler.set_epoch(epoch)
    return [rows for _, rows in sampler]


# order


@pytest.mark.parametrize("shuffle", [False, True], ids=["in order", "shuffled"])
@pytest.mark.parametrize("batch_size", [1, 16, 1009, 5000])
def test_every_cell_exactly_once_per_epoch(batch_size, shuffle):
    sampler = LengthSampler(LENGTHS, batch_size, shuffle=shuffle)
    batches = orders(sampler, epoch=3)
    assert len(batches) == len(sampler)
    assert max(len(rows) for rows in batches) == min(batch_size, N)
    np.testing.assert_array_equal(np.sort(np.concatenate(batches)), np.arange(N))


def test_epochs_have_different_orders_and_batches():
    sampler = LengthSampler(LENGTHS, 16, shuffle=True)
    a, b, again = orders(sampler, 0), orders(sampler, 1), orders(sampler, 0)
    assert not np.array_equal(np.concatenate(a), np.concatenate(b))
    np.testing.assert_array_equal(np.concatenate(a), np.concatenate(again))
    together = {frozenset(rows.tolist()) for rows in a} & {frozenset(rows.tolist()) for rows in b}
    assert not together


def test_the_seed_decides():
    a, b, c = (orders(LengthSampler(LENGTHS, 16, shuffle=True, seed=seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(np.concatenate(a), np.concatenate(b))
    assert not np.array_equal(np.concatenate(a), np.concatenate(c))


def padding(batches):
    """Share of padding among the tokens."""
    padded = sum(len(rows) * LENGTHS[rows].max() for rows in batches)
    return 1 - LENGTHS.sum() / padded


def test_cells_of_like_length_are_together():
    plain = np.random.default_rng(0).permutation(N)
    assert padding([plain[i : i + 16] for i in range(0, N, 16)]) > 0.4
    assert padding(orders(LengthSampler(LENGTHS, 16, shuffle=True))) < 0.15
    assert padding(orders(LengthSampler(LENGTHS, 16))) < 0.05


def test_shuffled_batches_are_not_sorted_by_length():
    batches = orders(LengthSampler(LENGTHS, 16, shuffle=True))
    mean = np.array([LENGTHS[rows].mean() for rows in batches])
    assert len(batches) > 2 * WINDOW
    assert 0.3 < (np.diff(mean) > 0).mean() < 0.7


def test_unshuffled_batches_begin_with_the_longest():
    batches = orders(LengthSampler(LENGTHS, 16))
    lengths = LENGTHS[np.concatenate(batches)]
    assert np.all(np.diff(lengths) <= 0)


@pytest.mark.parametrize("n_ranks", [2, 3])
def test_ranks_partition_each_global_batch(n_ranks):
    whole = orders(LengthSampler(LENGTHS, 16, shuffle=True), epoch=2)
    parts = [
        orders(LengthSampler(LENGTHS, 16, shuffle=True, rank=rank, n_ranks=n_ranks), epoch=2) for rank in range(n_ranks)
    ]
    assert [len(part) for part in parts] == [len(whole)] * n_ranks
    for rows, *of_ranks in zip(whole, *parts, strict=True):
        np.testing.assert_array_equal(np.sort(np.concatenate(of_ranks)), np.sort(rows))
        sizes = [len(part) for part in of_ranks]
        assert max(sizes) - min(sizes) <= 1


def test_batch_size_is_checked():
    with pytest.raises(ValueError, match="`batch_size`: found 0, but it must be at least 1"):
        LengthSampler(LENGTHS, 0)


# batches


def assert_batch(batch, expected):
    assert set(batch) == {*expected, "rows"}
    for name, array in expected.items():
        np.testing.assert_array_equal(batch[name].numpy(), array, err_msg=name)


@pytest.mark.parametrize(("fixed", "epoch"), [(None, 5), (2, 2)], ids=["fresh", "fixed"])
def test_a_training_batch_is_drawn_by_seed_epoch_and_id(fixed, epoch, table):
    rows, rates = np.array([7, 3, 99]), MaskingRates()
    batch = BatchDataset(table, rates, seed=4, fixed_epoch=fixed)[5, rows]
    cells, codes = table.cells.take(rows), table.codes[rows]
    masking = draw(cells, table.ids[rows], table.measured, 2, rates, seed=4, epoch=epoch)
    assert_batch(batch, make_batch(cells, masking, table.layout, codes))
    np.testing.assert_array_equal(batch["rows"], table.ids[rows])


def test_types_of_a_batch(table):
    batch = BatchDataset(table, MaskingRates())[0, np.arange(4)]
    kinds = {name: tensor.dtype for name, tensor in batch.items()}
    integers = {"tokens", "positions", "target_bins", "phenotypes", "rows"}
    assert {name for name, kind in kinds.items() if kind == torch.int64} == integers
    assert {name for name, kind in kinds.items() if kind == torch.bool} == {"key_mask", "phenotype_hidden"}
    assert {name for name, kind in kinds.items() if kind == torch.float32} == {"values", "zero_offset", "shown_share"}


def test_a_batch_does_not_share_memory_with_the_table(table):
    codes = table.codes.copy()
    BatchDataset(table, MaskingRates())[0, np.arange(4)]["phenotypes"].fill_(9)
    np.testing.assert_array_equal(table.codes, codes)


@pytest.mark.parametrize("n_workers", [0, 2])
def test_a_loader_gives_the_same_with_workers(n_workers, table):
    sampler = LengthSampler(table.cells.lengths, 16, shuffle=True)
    sampler.set_epoch(3)
    dataset = BatchDataset(table, MaskingRates())
    batches = list(make_loader(dataset, sampler, num_workers=n_workers))
    assert len(batches) == 7
    for batch, key in zip(batches, sampler, strict=True):
        expected = dataset[key]
        for name, tensor in batch.items():
            assert torch.equal(tensor, expected[name]), name


# the splitter


def splitter_of(table, validation=True, **kwargs):
    rows = np.arange(len(table))
    train, held_out = (
        CellTable(table.cells.take(r), table.codes[r], table.ids[r], table.layout, table.measured)
        for r in (rows[:80], rows[80:])
    )
    return CellSplitter(train, held_out if validation else None, MaskingRates(), batch_size=16, **kwargs)


def test_splitter_says_what_the_runner_of_scvi_tools_reads(table):
    splitter = splitter_of(table)
    assert (splitter.n_train, splitter.n_val) == (80, 21)
    np.testing.assert_array_equal(splitter.train_idx, table.ids[:80])
    np.testing.assert_array_equal(splitter.val_idx, table.ids[80:])


def test_training_batches_are_fresh_in_each_epoch(table):
    loader = splitter_of(table, seed=3).train_dataloader()
    epochs = []
    for epoch in (0, 1):
        loader.sampler.set_epoch(epoch)
        batches = list(loader)
        rows = np.concatenate([batch["rows"] for batch in batches])
        np.testing.assert_array_equal(np.sort(rows), np.sort(table.ids[:80]))
        hidden = np.concatenate([batch["phenotype_hidden"] for batch in batches])
        epochs.append((rows, hidden[np.argsort(rows)]))
    assert not np.array_equal(epochs[0][0], epochs[1][0])
    assert not np.array_equal(epochs[0][1], epochs[1][1])


def test_validation_batches_are_the_same_each_time(table):
    """No gene is dropped and every phenotype is hidden: what cannot be seen is targets alone."""
    loader = splitter_of(table).val_dataloader()
    first = list(loader)
    loader.sampler.set_epoch(1)
    for a, b in zip(first, loader, strict=True):
        for name in a:
            assert torch.equal(a[name], b[name]), name
    assert all(batch["phenotype_hidden"].all() for batch in first)
    n_seen = sum(int(batch["key_mask"].sum() + (batch["target_bins"] > 0).sum()) for batch in first)
    assert n_seen == table.cells.lengths[80:].sum() + 21 * table.layout.n_special


def test_without_validation_none_is_run(table):
    splitter = splitter_of(table, validation=False)
    assert splitter.val_dataloader() == []
    assert (splitter.n_val, splitter.val_idx) == (0, None)


def test_splitter_divides_batches_among_processes(table):
    whole = [batch["rows"] for batch in splitter_of(table).train_dataloader()]
    parts = []
    for rank in (0, 1):
        splitter = splitter_of(table)
        splitter.trainer = SimpleNamespace(global_rank=rank, world_size=2, accumulate_grad_batches=1)
        parts.append([batch["rows"] for batch in splitter.train_dataloader()])
    for rows, a, b in zip(whole, *parts, strict=True):
        np.testing.assert_array_equal(rows[0::2], a)
        np.testing.assert_array_equal(rows[1::2], b)


def test_loader_arguments_are_passed_on(table):
    splitter = splitter_of(table, num_workers=1, persistent_workers=True)
    for loader in (splitter.train_dataloader().loader, splitter.val_dataloader()):
        assert (loader.num_workers, loader.persistent_workers) == (1, True)
