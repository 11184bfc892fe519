"""Hidden words: counted as scikit-learn counts collected answers, and as a dense BERT answers."""

import tracemalloc
from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import confusion_matrix

from polygene_scverse._layout import MASK
from polygene_scverse.abilities._score_tokens import TokenCounts, count, count_hidden_tokens, with_the_originals_mask
from polygene_scverse.data.feed._masking import MaskingRates
from polygene_scverse.data.read import _expression
from polygene_scverse.engine import Engine, Query, RandomHiding, _engine
from polygene_scverse.model import Polygene


def collected(model, adata, rates, seed=0, balance=0.0):
    """True and guessed words of one batch with all cells, as plain arrays."""
    rows = np.arange(adata.n_obs)
    batch = Query(hiding=RandomHiding(rates, seed)).batch(model._cells(adata).read_all(), rows)
    model.module.eval()
    with torch.no_grad():
        inputs = model.module._get_inference_input(batch)
        out = model.module.generative(**model.module.inference(**inputs))
    bins, logits = batch["target_bins"].numpy(), out["gene_logits"].double().numpy()
    known = bins >= 0
    shifted = logits.copy()
    shifted[..., 0] += batch["zero_offset"].numpy()[:, None]
    genes = bins[known], shifted.argmax(-1)[known]
    expressed = bins[bins > 0], 1 + logits[..., 1:].argmax(-1)[bins > 0]
    phenotypes = {}
    for i, (name, shares) in enumerate(zip(model.layout.phenotype_names, model.log_shares.values(), strict=True)):
        codes, asked = batch["phenotypes"][:, i].numpy(), batch["phenotype_hidden"][:, i].numpy()
        guess = (out["phenotype_logits"][i].double() - balance * shares).argmax(-1).numpy()
        keep = asked & (codes >= 0)
        phenotypes[name] = codes[keep], guess[keep]
    return genes, expressed, phenotypes


@pytest.mark.filterwarnings("ignore:4 of the model's:UserWarning", "ignore:.*genes are unmeasured:UserWarning")
@pytest.mark.parametrize("balance", [0.0, 1.0], ids=["most probable", "balanced"])
@pytest.mark.parametrize("masking", ["original", {"not_expressed": 0.4, "hide_all": 0.2}], ids=["original", "rates"])
def test_as_scikit_learn_counts_collected_answers(trained_model, query, masking, balance, monkeypatch):
    """The temperature is that of both paths together, and the transformer guesses alone."""
    calibration = trained_model.fitted_.calibration
    for name, entry in calibration.items():
        monkeypatch.setitem(calibration, name, replace(entry, temperature=9.0))
    counts = trained_model.count_hidden_tokens(query, masking=masking, seed=3, balance=balance, batch_size=7)
    genes, expressed, phenotypes = collected(trained_model, query, counts.rates, seed=3, balance=balance)
    n_bins = trained_model.layout.n_bins
    np.testing.assert_array_equal(counts.genes, confusion_matrix(*genes, labels=range(n_bins)))
    np.testing.assert_array_equal(counts.expressed, confusion_matrix(*expressed, labels=range(1, n_bins)))
    for name, answers in phenotypes.items():
        categories = trained_model.categories[name]
        np.testing.assert_array_equal(
            counts.phenotypes[name], confusion_matrix(*answers, labels=range(len(categories)))
        )
        assert list(counts.phenotypes[name].index) == list(counts.phenotypes[name].columns) == categories


def test_names_of_the_tables(trained_model, cells):
    counts = trained_model.count_hidden_tokens(cells(20, 40))
    assert list(counts.genes.index) == [f"bin {b}" for b in range(10)]
    assert list(counts.expressed.columns) == [f"bin {b}" for b in range(1, 10)]
    assert (counts.genes.index.name, counts.genes.columns.name) == ("hidden", "guessed")


@pytest.mark.parametrize("n_bins", [2, 5])
def test_figures_are_those_of_the_validation(trained, n_bins):
    model = trained(masking={"expressed": 0.4}, model_kwargs={"n_bins": n_bins}, max_epochs=2, seed=5)
    model.fitted_.calibration = {}  # the validation comes before the calibration
    counts = model.count_hidden_tokens(indices=model.validation_indices, seed=5)
    assert counts.rates == MaskingRates(expressed=0.4, gene_dropout=0.0, hide_all=1.0)
    history = {name: float(table.iloc[-1, 0]) for name, table in model.history_.items()}
    of_expressed = counts.expressed.to_numpy()
    right = np.trace(of_expressed) / of_expressed.sum()
    assert right == pytest.approx(history["gene_accuracy_expressed_validation"], abs=1e-6)
    for name, matrix in counts.phenotypes.items():
        right = np.trace(matrix.to_numpy()) / matrix.to_numpy().sum()
        assert right == pytest.approx(history[f"{name}_accuracy_validation"], abs=1e-6)


def test_batches_change_nothing(trained_model, cells):
    one, many = (trained_model.count_hidden_tokens(cells(40, 40), batch_size=b) for b in (1, 64))
    pd.testing.assert_frame_equal(one.genes, many.genes)
    assert one.zero_offset == pytest.approx(many.zero_offset)


def test_another_seed_hides_other_words(trained_model, cells):
    one, other = (trained_model.count_hidden_tokens(cells(40, 40), seed=seed) for seed in (0, 1))
    assert not one.genes.equals(other.genes)


def test_the_offset_is_the_log_of_the_sampling_ratio(trained_model, cells):
    rates = {"expressed": 0.5, "not_expressed": 0.1, "gene_dropout": 0.0}
    assert trained_model.count_hidden_tokens(cells(30, 40), masking=rates).zero_offset == pytest.approx(np.log(0.2))
    assert trained_model.count_hidden_tokens(cells(30, 40), masking="original").zero_offset == 0


def test_missing_and_shown_values_are_not_counted(trained_model, cells):
    adata = cells(40, 40)
    adata.obs.iloc[:13, list(adata.obs).index("sex")] = np.nan
    hidden = trained_model.count_hidden_tokens(adata, masking={"hide_all": 1.0}).phenotypes["sex"]
    assert hidden.to_numpy().sum() == 27
    shown = trained_model.count_hidden_tokens(adata, masking={"hide_all": 0.0, "hide_each": 0.0}).phenotypes
    assert sum(matrix.to_numpy().sum() for matrix in shown.values()) == 0


def test_some_cells(trained_model, cells):
    adata = cells(40, 40)
    some = trained_model.count_hidden_tokens(adata, indices=[3, 8, 11], masking={"hide_all": 1.0})
    assert some.phenotypes["sex"].to_numpy().sum() == 3


@pytest.mark.parametrize("mode", [True, False], ids=["train", "eval"])
def test_the_mode_is_given_back(trained_model, cells, mode):
    adata = cells(20, 40)
    expected = trained_model.count_hidden_tokens(adata).genes
    trained_model.module.train(mode)
    pd.testing.assert_frame_equal(trained_model.count_hidden_tokens(adata).genes, expected)
    assert trained_model.module.training is mode
    trained_model.module.eval()


def test_rates_of_the_training_are_kept(trained, cells, tmp_path):
    model = trained(masking={"expressed": 0.4, "hide_all": 0.1})
    model.save(tmp_path / "model")
    for other in (Polygene.load(tmp_path / "model", adata=False), model.without_data()):
        assert other.fitted_.masking == asdict(MaskingRates(expressed=0.4, hide_all=0.1))
        assert other.count_hidden_tokens(cells()).rates.expressed == 0.4


def test_memory_does_not_grow_with_hidden_words(trained_model, cells, monkeypatch):
    monkeypatch.setattr(_engine, "BLOCK", 50)
    monkeypatch.setattr(_expression, "BLOCK", 50)
    every = {"expressed": 1.0, "not_expressed": 1.0, "gene_dropout": 0.0}  # 36 words a cell

    def peak(n_obs):
        adata = cells(n_obs, 40)
        tracemalloc.start()
        trained_model.count_hidden_tokens(adata, masking=every, batch_size=10)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(2400)  # what is allocated once
    assert peak(2400) - peak(1200) < 1200 * 36  # a byte per token; an answer alone takes eight


def test_the_total_of_two_files(trained_model, cells):
    first, second = cells(30, 40), cells(25, 40, seed=2)
    rates = {"expressed": 0.5, "not_expressed": 0.1, "gene_dropout": 0.0, "hide_all": 1.0}
    parts = [trained_model.count_hidden_tokens(adata, masking=rates) for adata in (first, second)]
    total = TokenCounts.total(parts)
    np.testing.assert_array_equal(total.genes, parts[0].genes.to_numpy() + parts[1].genes.to_numpy())
    np.testing.assert_array_equal(total.expressed, parts[0].expressed.to_numpy() + parts[1].expressed.to_numpy())
    assert total.phenotypes["sex"].to_numpy().sum() == 55
    assert total.zero_offset == pytest.approx(np.log(0.2))
    pd.testing.assert_frame_equal(TokenCounts.total(parts[:1]).genes, parts[0].genes)


# the original's mask; in `model` it is compared with BERT's answers


def test_the_originals_mask_shows_hidden_genes_that_are_expressed(trained_model, query):
    """As [MASK], after the visible ones; all that are hidden are asked for as before."""
    rates = MaskingRates(expressed=0.4, not_expressed=0.2)
    batch = Query(hiding=RandomHiding(rates)).batch(trained_model._cells(query).read_all(), np.arange(9))
    before = {name: value.clone() for name, value in batch.items()}
    seen = with_the_originals_mask(batch)
    n_keys, n_targets = before["key_mask"].shape[1], before["target_bins"].shape[1]
    expressed = before["target_bins"] > 0
    assert expressed.any()
    assert not expressed[before["target_bins"] >= 0].all()
    assert torch.equal(seen["key_mask"], torch.cat([before["key_mask"], expressed], dim=1))
    for name in ("tokens", "positions"):
        parts = seen[name].split([n_keys, n_targets, n_targets], dim=1)
        assert torch.equal(parts[0], before[name][:, :n_keys])
        assert torch.equal(parts[1], before[name][:, n_keys:])
        assert torch.equal(parts[2], before[name][:, n_keys:])
    assert (seen["tokens"][:, n_keys:][torch.cat([expressed, expressed], dim=1)] == MASK).all()
    assert seen["values"].shape[1] == before["values"].shape[1] + n_targets
    assert not seen["values"][:, -n_targets:].any()
    for name, value in before.items():
        assert torch.equal(batch[name], value), name
        if name not in ("tokens", "positions", "key_mask", "values"):
            assert torch.equal(seen[name], value), name


# counting


def test_cells_may_come_from_anywhere(trained_model, query):
    """Here from memory, as tokens."""
    rates = MaskingRates(expressed=0.4, hide_all=1.0)
    table = trained_model._cells(query).read_all()
    found = count_hidden_tokens(Engine(trained_model.module), trained_model.fitted_, table, RandomHiding(rates, 3))
    expected = trained_model.count_hidden_tokens(query, masking=rates, seed=3)
    pd.testing.assert_frame_equal(found.genes, expected.genes)
    pd.testing.assert_frame_equal(found.phenotypes["sex"], expected.phenotypes["sex"])
    assert found.zero_offset == expected.zero_offset


def test_counts_by_hand():
    """What is not known is left out; counts are added in place."""
    matrix = np.ones((3, 3), dtype=np.int64)
    count(matrix, torch.tensor([[0, 2], [-1, 2]]), torch.tensor([[1, 2], [0, 2]]))
    assert matrix.tolist() == [[1, 2, 1], [1, 1, 1], [1, 1, 3]]
    count(matrix, torch.tensor([-1]), torch.tensor([2]))
    assert matrix.sum() == 12


# what is refused


def test_an_untrained_model(model_of, cells):
    with pytest.raises(RuntimeError, match="The model is not trained"):
        model_of().count_hidden_tokens(cells())


def test_a_model_without_data(trained_model):
    with pytest.raises(ValueError, match="`adata`: the model was loaded without data"):
        trained_model.without_data().count_hidden_tokens()
