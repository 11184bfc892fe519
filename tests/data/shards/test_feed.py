import numpy as np
import pytest

from polygene_scverse._layout import TokenLayout
from polygene_scverse.data.feed._source import draw_cells
from polygene_scverse.data.feed._table import CellTable
from polygene_scverse.data.read._scale import COUNTS
from polygene_scverse.data.shards import _feed
from polygene_scverse.data.shards._feed import ShardFeed
from polygene_scverse.data.shards._shard_set import ShardSet
from polygene_scverse.data.shards._survey import tokenizers_of
from polygene_scverse.engine import Query

COLUMNS = {"cell_type": ["B cell", "NK cell", "T cell"], "sex": ["female", "male"]}
EDGES = np.array([0.0, 1e-9, 5.0, 6.0])
IDS = np.setdiff1d(np.arange(300), np.arange(0, 300, 7))


@pytest.fixture
def feed(simulated, write_files):
    """Training cells of three files of which the second lacks two genes of the model."""
    paths = write_files(simulated, change=lambda i, part: part[:, 4:].copy() if i == 1 else part)
    shards = ShardSet.open(paths, list(COLUMNS))
    genes = list(simulated.var_names[2:30])
    layout = TokenLayout.build(COLUMNS, genes, 4)
    return ShardFeed(shards, IDS, layout, COLUMNS, tokenizers_of(shards, genes, [COUNTS] * len(shards.files), EDGES))


def test_a_buffer_is_read(feed, simulated):
    at = np.array([0, 5, 100, 120, 121, 200, 256])
    part = feed.read(at)
    np.testing.assert_array_equal(part.ids, IDS[at])
    np.testing.assert_array_equal(part.codes[:, 0], simulated.obs["cell_type"].cat.codes.iloc[IDS[at]])
    lacking = (IDS[at] >= 120) & (IDS[at] < 170)
    assert lacking.any()
    np.testing.assert_array_equal(part.measured[part.kinds].all(1), ~lacking)
    np.testing.assert_array_equal(part.measured[part.kinds][lacking].sum(1), 26)
    expressed = (simulated.X[IDS[at]].toarray()[:, 2:30] > 0) & part.measured[part.kinds]
    np.testing.assert_array_equal(part.lengths, expressed.sum(1))


def test_cells_are_taken_of_a_buffer(feed):
    part = feed.read(np.arange(100, 140))
    rows = np.array([30, 0, 7])
    taken = part.take(rows)
    np.testing.assert_array_equal(taken.ids, part.ids[rows])
    np.testing.assert_array_equal(taken.kinds, part.kinds[rows])
    np.testing.assert_array_equal(taken.cells.values, part.cells.take(rows).values)


def test_some_cells_of_a_buffer_keep_what_is_measured(feed):
    whole, rows = feed.read(np.arange(90, 140)), np.array([30, 0, 7])
    part = whole.read(rows)
    assert type(part) is type(whole)
    expected = feed.measured[whole.kinds[rows]]
    assert len(np.unique(expected, axis=0)) == 2
    np.testing.assert_array_equal(part.measured_in(np.arange(3)), expected)
    np.testing.assert_array_equal(part.measured_in(np.array([2, 0])), expected[[2, 0]])
    np.testing.assert_array_equal(part.measured_in(np.array([1, 1])), expected[1])  # one row: as in memory
    np.testing.assert_array_equal(part.ids, whole.ids[rows])
    np.testing.assert_array_equal(part.codes, whole.codes[rows])
    np.testing.assert_array_equal(part.cells.values, whole.cells.take(rows).values)


def test_batches_of_prediction_say_what_is_measured_in_each_cell(feed):
    part, rows = feed.read(np.arange(90, 140)), np.array([30, 0, 7])
    batch = Query().batch(part, rows)
    np.testing.assert_array_equal(batch["measured"].numpy(), feed.measured[part.kinds[rows]])
    alike = CellTable(part.cells, part.codes, part.ids, part.layout, np.ones(28, dtype=bool))
    expected = Query().batch(alike, rows)
    assert set(batch) == set(expected)
    for name in set(batch) - {"measured"}:
        np.testing.assert_array_equal(batch[name], expected[name], err_msg=name)


def test_a_draw_of_cells_on_disk_is_that_of_the_cells_in_memory(feed):
    drawn, of_all = draw_cells(feed, 50, 3), draw_cells(feed.read(np.arange(len(feed))), 50, 3)
    np.testing.assert_array_equal(drawn.ids, of_all.ids)
    np.testing.assert_array_equal(drawn.kinds, of_all.kinds)
    np.testing.assert_array_equal(drawn.cells.values, of_all.cells.values)


def test_a_set_that_fits_is_one_buffer(feed):
    (only,) = feed.buffers(len(IDS), np.random.default_rng(0))
    np.testing.assert_array_equal(only, np.arange(len(IDS)))


@pytest.mark.parametrize("size", [16, 50, 256])
def test_buffers_hold_every_cell_once(size, feed, monkeypatch):
    monkeypatch.setattr(_feed, "BLOCK_CELLS", 10)
    buffers = feed.buffers(size, np.random.default_rng(0))
    assert [len(buffer) for buffer in buffers[:-1]] == [size] * (len(IDS) // size)
    np.testing.assert_array_equal(np.sort(np.concatenate(buffers)), np.arange(len(IDS)))
    assert all((np.diff(buffer) > 0).all() for buffer in buffers)


def test_buffers_are_blocks_of_all_files(feed, monkeypatch):
    monkeypatch.setattr(_feed, "BLOCK_CELLS", 5)
    first = feed.buffers(100, np.random.default_rng(0))[0]
    files = np.searchsorted(feed.shards.starts, IDS[first], side="right") - 1
    assert set(files) == {0, 1, 2}
    n_runs = (np.diff(first) > 1).sum() + 1
    assert 8 <= n_runs <= 21  # blocks of 5, some of them neighbours


def test_blocks_stay_within_a_file(feed, monkeypatch):
    monkeypatch.setattr(_feed, "BLOCK_CELLS", 1000)
    buffers = feed.buffers(200, np.random.default_rng(0))
    starts = {int(IDS[buffer[0]]) for buffer in buffers}
    assert len(buffers) == 2
    assert starts & {1, 120, 121, 170, 171}


def test_the_generator_decides(feed, monkeypatch):
    monkeypatch.setattr(_feed, "BLOCK_CELLS", 5)
    a, b, c = (feed.buffers(64, np.random.default_rng(seed))[0] for seed in (0, 0, 1))
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, c)
