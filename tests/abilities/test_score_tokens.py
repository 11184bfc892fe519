"""Hidden words: counted as scikit-learn counts collected answers, and as a dense BERT answers."""

import copy
import tracemalloc
import weakref
from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import confusion_matrix

from polygene_scverse._layout import MASK
from polygene_scverse.abilities import _score_tokens
from polygene_scverse.abilities._score_tokens import TokenCounts, count, count_hidden_tokens, with_the_originals_mask
from polygene_scverse.data.feed._masking import MaskingRates
from polygene_scverse.data.read import _expression
from polygene_scverse.datasets import simulate
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


def test_memory_does_not_grow_with_hidden_words(trained, cells, monkeypatch):
    """Ten times as many words a cell as other tests have, so that the 50 bytes that a cell's labels take do not show."""
    monkeypatch.setattr(_engine, "BLOCK", 50)
    monkeypatch.setattr(_expression, "BLOCK", 50)
    every = {"expressed": 1.0, "not_expressed": 1.0, "gene_dropout": 0.0}  # 400 words a cell
    model = trained(cells(80, 400))

    def peak(n_obs):
        adata = cells(n_obs, 400)
        tracemalloc.start()
        counts = model.count_hidden_tokens(adata, masking=every, batch_size=10)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert counts.genes.to_numpy().sum() == n_obs * 400
        return found

    peak(400)  # what is allocated once
    assert peak(400) - peak(200) < 200 * 400  # a byte per token; an answer alone takes eight


def test_logits_are_given_up_with_their_batch(trained_model, cells, monkeypatch):
    """Tensors are not in the memory that Python traces."""
    seen = []

    class Watched(_score_tokens._Counter):
        def add(self, batch, gene_logits, phenotype_logits):
            super().add(batch, gene_logits, phenotype_logits)
            seen.append([weakref.ref(tensor) for tensor in (gene_logits, *phenotype_logits, *batch.values())])

    monkeypatch.setattr(_score_tokens, "_Counter", Watched)
    trained_model.count_hidden_tokens(cells(60, 40), batch_size=10)
    assert len(seen) == 6
    assert not any(tensor() is not None for batch in seen for tensor in batch)


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


# likelihood


@pytest.fixture(scope="module")
def own():
    """Cells with missing labels, and a model of all of their genes."""
    adata = simulate(50, 40, missing=0.2, effect=2.0, seed=4)
    Polygene.setup_anndata(adata, phenotype_keys=["cell_type", "sex"])
    model = Polygene(adata, genes=list(adata.var_names), n_hidden=16, n_layers=1, n_heads=2, n_intermediate=16)
    model.train(max_epochs=3, enable_progress_bar=False, plan_kwargs={"lr": 0.01})
    return model


def log_softmax(z):
    """Of a dense array in double precision, over its last axis."""
    z = z - z.max(-1, keepdims=True)
    return z - np.log(np.exp(z).sum(-1, keepdims=True))


def dense_nll(model, hiding):
    """Mean NLL of each kind of token, from what the module returns for one batch with all cells."""
    batch = Query(hiding=hiding).batch(model._cells(None).read_all(), np.arange(model.adata.n_obs))
    with torch.no_grad():
        out = model.module.generative(**model.module.inference(**model.module._get_inference_input(batch)))
    logits, bins = out["gene_logits"].double().numpy(), batch["target_bins"].numpy()
    shifted = logits.copy()
    shifted[..., 0] += batch["zero_offset"].numpy()[:, None]
    at = np.nonzero(bins >= 0)
    genes = -log_softmax(shifted)[(*at, bins[at])]
    at_expressed = np.nonzero(bins > 0)
    found = {
        "genes": genes.mean(),
        "expressed": genes[bins[at] > 0].mean(),
        "not expressed": genes[bins[at] == 0].mean(),
    }
    found["bin of expressed"] = -log_softmax(logits[..., 1:])[(*at_expressed, bins[at_expressed] - 1)].mean()
    for i, name in enumerate(model.layout.phenotype_names):
        asked = (batch["phenotype_hidden"] & (batch["phenotypes"] >= 0))[:, i].numpy()
        codes = batch["phenotypes"][:, i].numpy()[asked]
        of_truth = log_softmax(out["phenotype_logits"][i].double().numpy()[asked])[np.arange(len(codes)), codes]
        found[name] = -of_truth.mean() if len(codes) else np.nan
    return found


def mean_nll(counts):
    """The same from sums."""
    n_of, n_expressed = counts.genes.to_numpy().sum(1), counts.expressed.to_numpy().sum()
    found = {"genes": counts.nll.genes.sum() / n_of.sum(), "expressed": counts.nll.genes[1:].sum() / n_of[1:].sum()}
    found |= {"not expressed": counts.nll.genes[0] / n_of[0]}
    found |= {"bin of expressed": counts.nll.expressed.sum() / n_expressed}
    with np.errstate(invalid="ignore"):
        of_phenotypes = {
            name: s.sum() / counts.phenotypes[name].to_numpy().sum() for name, s in counts.nll.phenotypes.items()
        }
    return found | of_phenotypes


@pytest.mark.parametrize("given", [(), ("sex",), ("cell_type", "sex")], ids=["none", "sex", "all"])
@pytest.mark.parametrize("share", [None, 0.0, 0.5, 1.0])
def test_nll_is_that_of_dense_arrays(own, given, share):
    """Phenotypes that are shown everywhere are not scored: no number."""
    rates = MaskingRates(gene_dropout=0.0, hide_all=1.0)
    counts = own.count_hidden_tokens(given=given, hidden_share=share, seed=2, batch_size=9)
    slots = tuple(own.layout.phenotype_names.index(name) for name in given)
    expected = dense_nll(own, RandomHiding(rates, 2, slots, share))
    assert mean_nll(counts) == pytest.approx(expected, rel=1e-5, nan_ok=True)
    assert {name for name, value in expected.items() if np.isnan(value)} == set(given)
    assert counts.hiding == RandomHiding(rates, 2, slots, share)


def test_nll_of_a_share_is_of_the_same_genes(own):
    """By default none of the others is hidden."""
    plain, none, all_of_them = (own.count_hidden_tokens(hidden_share=share) for share in (None, 0.0, 1.0))
    np.testing.assert_array_equal(none.nll.genes, plain.nll.genes)
    pd.testing.assert_series_equal(all_of_them.genes.sum(axis=1), plain.genes.sum(axis=1))
    assert mean_nll(all_of_them)["genes"] != pytest.approx(mean_nll(plain)["genes"], rel=1e-3)


@pytest.mark.parametrize(
    ("how", "share"),
    [("zero parameters", None), ("zero parameters", 1.0), ("no genes", 1.0)],  # with genes the trained part counts
)
def test_nll_of_frequencies_in_closed_form(own, how, share):
    """A decoder without a trained part, in which no category counts, has the NLL of the genes' frequencies."""
    model = copy.deepcopy(own.without_data())
    decoder = model.module.gene_decoder
    with torch.no_grad():
        decoder.odds.fill_(1.0)  # categories change nothing
        decoder.interactions.zero_()
        if how == "zero parameters":
            for parameter in model.module.parameters():
                parameter.zero_()
    counts = model.count_hidden_tokens(own.adata, hidden_share=share)
    table = own._cells(None).read_all()
    batch = Query(hiding=counts.hiding).batch(table, np.arange(len(table)))
    n_keys, bins = batch["key_mask"].shape[1], batch["target_bins"].numpy()
    at = np.nonzero(bins >= 0)
    genes = batch["positions"][:, n_keys:].numpy()[at] - own.layout.first_gene_position
    frequencies = np.exp(log_softmax(decoder.bias.double().numpy()))[genes]  # (n_targets, n_bins)
    frequencies[:, 0] *= np.exp(batch["zero_offset"].numpy())[at[0]]
    probability = frequencies[np.arange(len(genes)), bins[at]] / frequencies.sum(1)
    assert mean_nll(counts)["genes"] == pytest.approx(-np.log(probability).mean(), rel=1e-5)


def test_an_untrained_decoder_has_the_nll_of_frequencies_by_class(own):
    """No epoch is trained; every phenotype is shown and no gene, so that the class is all that is known."""
    adata = simulate(80, 30, effect=2.0, seed=1)
    Polygene.setup_anndata(adata, phenotype_keys=["cell_type"])
    model = Polygene(adata, genes=list(adata.var_names), n_hidden=16, n_layers=1, n_heads=2, n_intermediate=16)
    model.train(max_epochs=0, enable_progress_bar=False)
    counts = model.count_hidden_tokens(given="cell_type", hidden_share=1.0)
    decoder, table = model.module.gene_decoder, model._cells(None).read_all()
    batch = Query(hiding=counts.hiding).batch(table, np.arange(len(table)))
    bins = batch["target_bins"].numpy()
    at = np.nonzero(bins >= 0)
    genes = batch["positions"][:, batch["key_mask"].shape[1] :].numpy()[at] - model.layout.first_gene_position
    logits = (
        decoder.bias.double().numpy()[genes] + np.log(decoder.odds.double().numpy())[genes, :, table.codes[at[0], 0]]
    )
    logits[:, 0] += batch["zero_offset"].numpy()[at[0]]
    expected = -log_softmax(logits)[np.arange(len(genes)), bins[at]].mean()
    assert mean_nll(counts)["genes"] == pytest.approx(expected, rel=1e-5)
    hidden = model.count_hidden_tokens(hidden_share=1.0)
    assert mean_nll(hidden)["genes"] > expected + 0.01  # the classes differ


def test_the_nll_of_two_files_is_added(own):
    parts = [own.count_hidden_tokens(indices=rows) for rows in (range(20), range(20, 50))]
    total, together = TokenCounts.total(parts), own.count_hidden_tokens()
    assert mean_nll(total) == pytest.approx(mean_nll(together), rel=1e-6)


def test_nll_is_that_of_the_training(own):
    """On the validation cells, with its seed."""
    counts = own.count_hidden_tokens(indices=own.validation_indices, seed=0)
    assert mean_nll(counts)["genes"] == pytest.approx(own.history_["gene_nll_validation"].iloc[-1, 0], rel=1e-4)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"hidden_share": 1.5}, "`hidden_share`: found 1.5, but it must be a fraction. Pass a number from 0 to 1"),
        ({"hidden_share": -0.1}, "`hidden_share`: found -0.1"),
        ({"given": "age"}, r"`given`: found 'age', but it must be one of \['cell_type', 'sex'\]"),
    ],
    ids=["above", "below", "phenotype"],
)
def test_what_cannot_be_shown_or_hidden(own, arguments, match):
    with pytest.raises(ValueError, match=match):
        own.count_hidden_tokens(**arguments)


def test_given_phenotypes_must_be_recorded(own):
    adata = own.adata.copy()
    del adata.obs["sex"]
    with pytest.raises(KeyError, match=r"`given`: .*'sex'"):
        own.count_hidden_tokens(adata, given="sex")


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
