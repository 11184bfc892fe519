"""The oracle is the loader of cells in memory, and the draw of each cell alone."""

import threading
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from polygene_scverse._layout import TokenLayout
from polygene_scverse.data.feed._loader import CellSplitter
from polygene_scverse.data.feed._masking import MaskingRates, draw, draw_mixed
from polygene_scverse.data.feed._table import CellPart, CellTable
from polygene_scverse.data.read._scale import COUNTS
from polygene_scverse.data.shards import _feed
from polygene_scverse.data.shards._feed import ShardFeed
from polygene_scverse.data.shards._loader import ShardBatches, ShardSampler, ShardSplitter
from polygene_scverse.data.shards._shard_set import ShardSet
from polygene_scverse.data.shards._survey import tokenizers_of

COLUMNS = {"cell_type": ["B cell", "NK cell", "T cell"], "sex": ["female", "male"]}
EDGES = np.array([0.0, 1e-9, 5.0, 6.0])
HELD_OUT = np.arange(0, 300, 7)
IDS = np.setdiff1d(np.arange(300), HELD_OUT)


@pytest.fixture
def feed_of(simulated, write_files, monkeypatch):
    """A function that makes a feed; with `lacking`, the second file lacks two genes of the model."""
    monkeypatch.setattr(_feed, "BLOCK_CELLS", 10)
    genes = list(simulated.var_names[2:30])
    layout = TokenLayout.build(COLUMNS, genes, 4)

    def make(ids=IDS, lacking=False, buffer_cells=64):
        n_left_out = 4 if lacking else 0
        paths = write_files(simulated, change=lambda i, part: part[:, n_left_out:].copy() if i == 1 else part)
        shards = ShardSet.open(paths, list(COLUMNS))
        return ShardFeed(
            shards,
            ids,
            layout,
            COLUMNS,
            tokenizers_of(shards, genes, [COUNTS] * len(shards.files), EDGES),
            buffer_cells,
        )

    return make


def ids_of(sampler, epoch=0, first=0):
    sampler.set_epoch(epoch, first)
    return [part.ids for _, part in sampler]


def assert_same(batches, expected):
    for batch, other in zip(batches, expected, strict=True):
        for name in other.keys() - {"rows"}:
            assert torch.equal(batch[name], other[name]), name


def in_memory(feed, ids):
    part = ShardFeed(feed.shards, ids, feed.layout, COLUMNS, feed.tokenizers).read(np.arange(len(ids)))
    return CellTable(part.cells, part.codes, part.ids, feed.layout, part.measured[0])


@pytest.mark.parametrize("epoch", [0, 3])
def test_a_set_that_fits_gives_the_batches_in_memory(epoch, feed_of):
    feed, held_out = feed_of(buffer_cells=1000), feed_of(HELD_OUT)
    rates = MaskingRates()
    ours = ShardSplitter(feed, held_out.read(np.arange(len(HELD_OUT))), rates, batch_size=16, seed=5)
    theirs = CellSplitter(in_memory(feed, IDS), in_memory(feed, HELD_OUT), rates, batch_size=16, seed=5)
    loaders = [splitter.train_dataloader() for splitter in (ours, theirs)]
    for loader in loaders:
        loader.sampler.set_epoch(epoch)
    assert len(loaders[0]) == len(loaders[1])
    assert_same(*loaders)
    assert_same(ours.val_dataloader(), theirs.val_dataloader())
    np.testing.assert_array_equal(ours.train_idx, theirs.train_idx)
    assert (ours.n_train, ours.n_val) == (theirs.n_train, theirs.n_val)


def test_a_set_that_fits_is_read_once(feed_of, monkeypatch):
    feed = feed_of(buffer_cells=1000)
    sampler, calls = ShardSampler(feed, 16), []
    read = feed.read
    monkeypatch.setattr(feed, "read", lambda at: calls.append(len(at)) or read(at))
    ids_of(sampler, 0), ids_of(sampler, 1)
    assert calls == [len(IDS)]


@pytest.mark.parametrize("batch_size", [1, 7, 16, 64])
def test_every_cell_exactly_once_per_epoch(batch_size, feed_of):
    sampler = ShardSampler(feed_of(), batch_size)
    batches = ids_of(sampler, 2)
    assert len(batches) == len(sampler) == -(-len(IDS) // batch_size)
    np.testing.assert_array_equal(np.sort(np.concatenate(batches)), IDS)
    assert max(len(ids) for ids in batches) == batch_size


def test_seed_and_epoch_decide_the_order(feed_of):
    feed = feed_of()
    a, again = ids_of(ShardSampler(feed, 16), 1), ids_of(ShardSampler(feed, 16), 1)
    other_epoch, other_seed = ids_of(ShardSampler(feed, 16), 2), ids_of(ShardSampler(feed, 16, seed=1), 1)
    for x, y in zip(a, again, strict=True):
        np.testing.assert_array_equal(x, y)
    for other in (other_epoch, other_seed):
        together = {frozenset(ids.tolist()) for ids in a} & {frozenset(ids.tolist()) for ids in other}
        assert len(together) <= 1


def test_buffers_are_ordered_in_different_ways(feed_of):
    sampler = ShardSampler(feed_of(), 8)
    part = sampler.feed.read(np.arange(64))
    orders = [np.concatenate(sampler.batches_of(k, part.cells)) for k in range(3)]
    assert not np.array_equal(orders[0], orders[1])
    assert not np.array_equal(orders[1], orders[2])


@pytest.mark.parametrize("first", [0, 1, 4, 5, 16, 17, 99])
def test_an_epoch_can_be_begun_anywhere(first, feed_of, monkeypatch):
    """Buffers that come before are not read."""
    feed = feed_of()
    sampler = ShardSampler(feed, 16)
    whole, calls, read = ids_of(sampler, 1), [], feed.read
    monkeypatch.setattr(feed, "read", lambda at: calls.append(len(at)) or read(at))
    rest = ids_of(sampler, 1, first)
    assert len(rest) == max(0, len(whole) - first)
    for a, b in zip(rest, whole[first:], strict=True):
        np.testing.assert_array_equal(a, b)
    assert len(calls) == max(0, 5 - first // 4)  # 257 cells in buffers of 64


@pytest.mark.parametrize("n_ranks", [2, 3])
def test_ranks_partition_each_global_batch(n_ranks, feed_of):
    feed = feed_of()
    whole = ids_of(ShardSampler(feed, 16), 2)
    parts = [ids_of(ShardSampler(feed, 16, rank=rank, n_ranks=n_ranks), 2) for rank in range(n_ranks)]
    for ids, *of_ranks in zip(whole, *parts, strict=True):
        for rank, part in enumerate(of_ranks):
            np.testing.assert_array_equal(part, ids[rank::n_ranks])


@pytest.mark.parametrize("n_ranks", [1, 2])
def test_a_step_may_come_in_parts(n_ranks, feed_of):
    feed = feed_of()
    whole = ids_of(ShardSampler(feed, 16), 1, 3)
    for rank in range(n_ranks):
        sampler = ShardSampler(feed, 16, rank=rank, n_ranks=n_ranks, parts=3)
        parts = ids_of(sampler, 1, 3)
        assert len(sampler) == 3 * 17
        for i, ids in enumerate(whole):
            found = np.concatenate(parts[3 * i : 3 * i + 3])
            np.testing.assert_array_equal(np.sort(found), np.sort(ids[rank::n_ranks]))


def test_a_batch_without_cells(feed_of):
    feed = feed_of(lacking=True)
    part = feed.read(np.arange(3)).take(np.zeros(0, dtype=np.int64))
    batch = ShardBatches(feed.layout, feed.measured, MaskingRates())[0, part]
    assert batch["tokens"].shape[0] == 0


def test_the_splitter_divides_batches_among_processes(feed_of):
    feed = feed_of()
    held_out = feed_of(HELD_OUT).read(np.arange(len(HELD_OUT)))
    loaders = []
    for trainer in (None, SimpleNamespace(global_rank=1, world_size=2, accumulate_grad_batches=1)):
        splitter = ShardSplitter(feed, held_out, MaskingRates(), batch_size=16)
        splitter.trainer = trainer
        loaders.append((splitter.train_dataloader(), splitter.val_dataloader()))
    for whole, part in zip(*loaders, strict=True):
        for a, b in zip(whole, part, strict=True):
            np.testing.assert_array_equal(a["rows"][1::2], b["rows"])


@pytest.mark.parametrize("lacking", [False, True], ids=["same genes", "other genes"])
def test_a_loader_gives_the_same_with_workers(lacking, feed_of):
    feed, batches = feed_of(lacking=lacking), []
    for n_workers in (0, 2):
        splitter = ShardSplitter(feed, None, MaskingRates(), batch_size=16, seed=3, num_workers=n_workers)
        loader = splitter.train_dataloader()
        loader.sampler.set_epoch(1)
        batches.append(list(loader))
        assert splitter.val_dataloader() == []
    assert_same(*batches)
    assert len(batches[0]) == 17


def test_unmeasured_genes_are_never_shown_and_never_asked(feed_of):
    """With every expressed and half of the other genes as targets, over many cells."""
    splitter = ShardSplitter(feed_of(lacking=True), None, MaskingRates(not_expressed=0.5), batch_size=16)
    asked, first = {True: set(), False: set()}, splitter.train.layout.first_gene_position
    for batch in splitter.train_dataloader():
        n_special = splitter.train.layout.n_special
        lacking = (batch["rows"] >= 120) & (batch["rows"] < 170)
        for positions, cell_lacks in zip(batch["positions"][:, n_special:].numpy(), lacking.tolist(), strict=True):
            asked[cell_lacks] |= set(positions[positions > 0] - first)
    assert asked[False] == set(range(28))
    assert asked[True] == set(range(2, 28))


def test_the_draw_of_a_cell_is_that_of_the_cell_alone(feed_of):
    feed, rates = feed_of(lacking=True), MaskingRates()
    part = feed.read(np.arange(90, 150)).take(np.random.default_rng(0).permutation(60))
    assert len(set(part.kinds)) == 2
    masking = draw_mixed(part, feed.measured, 2, rates, seed=1, epoch=2)
    rows = np.repeat(np.arange(60), part.cells.lengths)
    assert (np.diff(masking.zero_rows) >= 0).all()
    for i in range(60):
        one = np.array([i])
        alone = draw(part.cells.take(one), part.ids[one], feed.measured[part.kinds[i]], 2, rates, seed=1, epoch=2)
        np.testing.assert_array_equal(masking.visible[rows == i], alone.visible)
        np.testing.assert_array_equal(masking.target[rows == i], alone.target)
        np.testing.assert_array_equal(masking.zero_genes[masking.zero_rows == i], alone.zero_genes)
        np.testing.assert_array_equal(masking.hidden[one], alone.hidden)
        np.testing.assert_array_equal(masking.log_sampling_ratio[one], alone.log_sampling_ratio)


def test_what_goes_to_a_worker_is_small(feed_of):
    """Tokens of a batch, not the names of genes."""
    key = next(iter(ShardSampler(feed_of(), 16)))
    assert isinstance(key[1], CellPart)
    assert key[1].cells.genes.base is None or key[1].cells.genes.base.size <= 16 * 28


def test_an_epoch_that_is_not_finished_leaves_no_thread(feed_of):
    before = threading.active_count()
    batches = iter(ShardSampler(feed_of(), 16))
    next(batches)
    batches.close()
    assert threading.active_count() == before


def test_a_file_that_vanishes_is_named(feed_of):
    feed = feed_of()
    feed.shards.files[2].path.unlink()
    with pytest.raises(FileNotFoundError, match=r"shard_2\.h5ad"):
        ids_of(ShardSampler(feed, 16))


def test_sizes_are_checked(feed_of):
    with pytest.raises(ValueError, match=r"`batch_size`: found 0, but it must be at least 1"):
        ShardSampler(feed_of(), 0)
    with pytest.raises(ValueError, match=r"`buffer_cells`: found 64, but a buffer must hold a batch of 65"):
        ShardSampler(feed_of(), 65)
