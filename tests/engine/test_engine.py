"""The loop over cells: any source, any blocks and batches, the same results in the order of the cells."""

from dataclasses import replace

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp
import torch

from polygene_scverse.data.feed._masking import MaskingRates
from polygene_scverse.data.feed._table import CellTable
from polygene_scverse.data.read import _expression
from polygene_scverse.data.read._binning import digitize
from polygene_scverse.data.read._scale import OURS
from polygene_scverse.data.read._tokens import Cells
from polygene_scverse.data.shards._feed import ShardFeed
from polygene_scverse.data.shards._shard_set import ShardSet
from polygene_scverse.data.shards._survey import tokenizers_of
from polygene_scverse.engine import INPUTS, Engine, Query, RandomHiding, _engine
from polygene_scverse.engine._engine import evaluating
from polygene_scverse.module import _linear_path

QUERIES = {
    "plain": Query(),
    "given": Query(shown=(1,), phenotypes=((0, 2),)),
    "genes": Query(removed=(3, 30), genes=((9, 3, 5.5), (4, 0, 0.0))),
    "asked": Query(asked=(7, 2)),
    "hidden": Query(hiding=RandomHiding(MaskingRates(expressed=0.3, hide_all=0.5), seed=3)),
}


@pytest.fixture
def engine(trained_model):
    """Its module is left in evaluation mode."""
    yield Engine(trained_model.module)
    trained_model.module.eval()


@pytest.fixture
def of_batch(trained_model):
    """Logits of phenotypes, states of their slots, and the numbers of the cells."""
    module, share = trained_model.module, torch.tensor(trained_model.fitted_.linear_share)

    def of_batch(batch):
        arrays = [batch[name] for name in INPUTS]
        return [*module.predict(*arrays, share), module.decision_states(*arrays, share), batch["rows"]]

    return of_batch


class Generated:
    """Cells that are made up when they are read."""

    def __init__(self, x, edges, layout, codes):
        self.x, self.edges, self.layout, self.codes = x, edges, layout, codes
        self.ids, self.reads = np.arange(len(x)), []

    def __len__(self):
        return len(self.ids)

    def read(self, rows):
        self.reads.append(rows)
        x = self.x[rows]
        row, gene = np.nonzero(x)
        indptr = np.r_[0, np.cumsum((x > 0).sum(1))].astype(np.int64)
        bins = digitize(x[row, gene], self.edges).astype(np.int16)
        cells = Cells(indptr, gene.astype(np.int32), bins, x[row, gene])
        return CellTable(cells, self.codes[rows], self.ids[rows], self.layout, np.ones(x.shape[1], dtype=bool))


@pytest.fixture
def generated(logged, source_of, trained_model):
    x = logged[:, trained_model.genes].X
    return Generated(x, np.array(trained_model.edges_), trained_model.layout, source_of(logged).codes)


@pytest.fixture
def feed_of(trained_model, write_files):
    """A function that writes 50 cells into three files, and makes a source of these."""

    def feed_of(adata, **kwargs):
        layout, columns = trained_model.layout, trained_model.categories
        shards = ShardSet.open(write_files(adata, (0, 20, 27, 50), **kwargs), list(columns))
        tokenizers = tokenizers_of(shards, layout.genes, [OURS] * 3, np.array(trained_model.edges_))
        return ShardFeed(shards, np.arange(50), layout, columns, tokenizers)

    return feed_of


@pytest.fixture
def sources(logged, source_of, generated, feed_of, tmp_path):
    """The same cells in memory, sparse and dense, in files, as tokens, and generated."""
    sparse = logged.copy()
    sparse.X = sp.csr_matrix(logged.X)
    sparse.write_h5ad(tmp_path / "sparse.h5ad")
    logged.write_h5ad(tmp_path / "dense.h5ad")
    backed = [ad.read_h5ad(tmp_path / f"{name}.h5ad", backed="r") for name in ("sparse", "dense")]
    found = {"table": source_of(logged).read_all(), "dense": source_of(logged), "sparse": source_of(sparse)}
    found |= {"backed sparse": source_of(backed[0]), "backed dense": source_of(backed[1])}
    yield found | {"files": feed_of(sparse), "generated": generated}
    for data in backed:
        data.file.close()


# sources


@pytest.mark.parametrize("question", QUERIES.values(), ids=QUERIES)
def test_every_source_gives_the_same_to_the_last_bit(engine, sources, of_batch, question):
    expected = engine.gather(sources["table"], question, of_batch)
    assert np.ptp(expected[0][:, 0]) > 0.1
    for name, source in sources.items():
        for found, of_table in zip(engine.gather(source, question, of_batch), expected, strict=True):
            np.testing.assert_array_equal(found, of_table, err_msg=name)


@pytest.mark.parametrize("question", QUERIES.values(), ids=QUERIES)
@pytest.mark.parametrize(("block", "batch_size"), [(8192, 1), (8192, 1000), (7, 64), (13, 4), (1, 3)], ids=str)
def test_blocks_and_batches_change_nothing(engine, sources, of_batch, question, block, batch_size, monkeypatch):
    expected = engine.gather(sources["table"], question, of_batch)
    monkeypatch.setattr(_engine, "BLOCK", block)
    monkeypatch.setattr(_expression, "BLOCK", 5)
    other = Engine(engine.module, batch_size)
    for name in ("table", "sparse", "backed dense", "files", "generated"):
        for found, of_table in zip(other.gather(sources[name], question, of_batch), expected, strict=True):
            np.testing.assert_allclose(found, of_table, atol=1e-5, rtol=1e-5, err_msg=name)


def test_files_that_lack_genes(engine, feed_of, logged, source_of, of_batch, trained_model):
    """As each file alone in memory."""
    lacking = logged[:, ~logged.var_names.isin(trained_model.genes[:3])].copy()
    feed = feed_of(logged, change=lambda i, part: part[:, lacking.var_names].copy() if i == 1 else part)
    assert feed.measured.shape == (2, 36)
    found = engine.gather(feed, Query(), of_batch)
    for data, rows in ((logged, np.r_[0:20, 27:50]), (lacking, np.arange(20, 27))):
        for of_feed, expected in zip(found, engine.gather(source_of(data, rows), Query(), of_batch), strict=True):
            np.testing.assert_allclose(of_feed[rows], expected, atol=1e-5, rtol=1e-5)


# order


def test_results_are_in_the_order_of_the_cells(engine, logged, source_of, monkeypatch):
    """Whatever their lengths, also where a cell comes twice."""
    monkeypatch.setattr(_engine, "BLOCK", 13)
    rows = np.random.default_rng(0).integers(0, 50, 41)
    source = source_of(logged, rows)
    assert len(set(source.read_all().lengths)) > 10
    (found,) = Engine(engine.module, 4).gather(source, Query(), lambda batch: [batch["rows"][:, None]])
    np.testing.assert_array_equal(found[:, 0], rows)


def test_other_orders_give_the_same_rows(engine, logged, source_of, of_batch):
    order = np.random.default_rng(1).permutation(50)
    expected = engine.gather(source_of(logged), Query(), of_batch)
    for found, plain in zip(engine.gather(source_of(logged, order), Query(), of_batch), expected, strict=True):
        np.testing.assert_allclose(found, plain[order], atol=1e-5, rtol=1e-5)


def test_batches_have_cells_of_like_length_and_each_cell_is_met_once(engine, table, monkeypatch):
    monkeypatch.setattr(_engine, "BLOCK", 20)
    met, widths = [], []

    def consume(rows, outputs):
        np.testing.assert_array_equal(table.ids[rows], outputs[0])
        met.append(rows)
        widths.append(np.ptp(table.lengths[rows]))

    Engine(engine.module, 5).run(table, Query(), lambda batch: [batch["rows"]], consume)
    np.testing.assert_array_equal(np.sort(np.concatenate(met)), np.arange(50))
    assert max(map(len, met)) == 5
    assert np.mean(widths) < 0.5 * np.ptp(table.lengths)


def test_each_block_is_read_once(engine, generated, monkeypatch):
    monkeypatch.setattr(_engine, "BLOCK", 20)
    engine.gather(generated, Query(), lambda batch: [batch["rows"]])
    assert [rows.tolist() for rows in generated.reads] == [[*range(20)], [*range(20, 40)], [*range(40, 50)]]


def test_several_results_of_any_shape_in_single_precision(engine, table):
    def results(batch):
        rows = batch["rows"]
        return [rows, rows.double()[:, None, None].expand(-1, 2, 3), rows[:, None] > 10]

    found = engine.gather(table, Query(), results)
    assert [part.shape for part in found] == [(50,), (50, 2, 3), (50, 1)]
    assert {part.dtype for part in found} == {np.dtype(np.float32)}
    np.testing.assert_array_equal(found[1][:, 1, 2], table.ids)
    np.testing.assert_array_equal(found[2][:, 0], table.ids > 10)


def test_nothing_is_kept_but_what_is_taken(engine, table):
    assert engine.gather(table, Query(), lambda batch: []) == []
    assert engine.gather(table.read(np.arange(0)), Query(), lambda batch: [batch["rows"]]) == []


# the mode of the module


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_the_mode_is_given_back(engine, table, of_batch, training):
    expected = engine.gather(table, Query(), of_batch)
    engine.module.train(training)
    seen = []

    def function(batch):
        seen.append((engine.module.training, torch.is_inference_mode_enabled()))
        return of_batch(batch)

    for found, of_evaluation in zip(engine.gather(table, Query(), function), expected, strict=True):
        np.testing.assert_array_equal(found, of_evaluation)  # without dropout
    assert set(seen) == {(False, True)}
    assert engine.module.training is training
    assert all(part.training is training for part in engine.module.modules())
    assert not torch.is_inference_mode_enabled()


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("who", ["function", "consume", "source"])
def test_an_error_leaves_the_mode_as_it_was(engine, generated, who, training):
    engine.module.train(training)

    def fail(*_):
        raise KeyError(who)

    def nothing(*_):
        return []

    parts = {name: fail if name == who else nothing for name in ("function", "consume")}
    if who == "source":
        generated.read = fail
    with pytest.raises(KeyError, match=who):
        engine.run(generated, Query(), **parts)
    assert engine.module.training is training
    assert not torch.is_inference_mode_enabled()
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_evaluating_may_be_nested(engine, training):
    engine.module.train(training)
    with evaluating(engine.module):
        with evaluating(engine.module):
            assert not engine.module.training
        assert not engine.module.training
    assert engine.module.training is training


def test_random_state_is_left_alone(engine, table, of_batch):
    states = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    engine.gather(table, QUERIES["hidden"], of_batch)
    assert torch.equal(torch.get_rng_state(), states[0])
    np.testing.assert_array_equal(np.random.get_state()[1], states[1])  # noqa: NPY002


def test_a_batch_size_of_0_is_refused(engine):
    with pytest.raises(ValueError, match="`batch_size`: found 0"):
        Engine(engine.module, 0)


def test_larger_batches_for_phenotypes_give_the_same_results(trained_model, engine, of_batch, table, monkeypatch):
    """Batches are cut by the number of genes that are read."""
    monkeypatch.setattr(_linear_path, "FEWEST", 2)
    linear = trained_model.module.linear
    before = float(linear.share_read)
    try:
        linear.limit(0.25)
        small, sizes = replace(engine, tokens=40), []

        def counted(batch):
            sizes.append(len(batch["tokens"]))
            return of_batch(batch)

        expected = small.gather(table, Query(), counted)
        n, found = len(sizes), replace(small, for_phenotypes=True).gather(table, Query(), counted)
        assert max(sizes[n:]) > max(sizes[:n])
        assert len(sizes) - n < n
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    finally:
        linear.limit(before)
