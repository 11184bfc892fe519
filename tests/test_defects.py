"""The defects of the original, each beside the tests that would fail if we had it.

Where a test for a defect stands with the code that avoids it, `ELSEWHERE` names it; the others are here.
"""

import ast
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import torch
from torch.utils.data import DataLoader

from polygene_scverse.data.feed._loader import BatchDataset, LengthSampler
from polygene_scverse.data.feed._masking import MaskingRates
from polygene_scverse.model import Polygene

TESTS = Path(__file__).parent
SMALL = {"n_hidden": 16, "n_layers": 1, "n_heads": 2, "n_intermediate": 16}
ELSEWHERE = {
    "the attention mask leaks whether a hidden gene is expressed": [
        "module/test_module_parity.py::test_whether_a_target_is_expressed_changes_nothing_but_the_loss",
        "module/test_module_parity.py::test_the_bin_of_a_target_changes_nothing_but_the_loss",
        "data/feed/test_batch.py::test_the_inputs_tell_nothing_of_targets",
    ],
    "a neighbour bin costs as much as the farthest": [
        "module/test_losses.py::test_a_neighbouring_bin_costs_less_than_the_farthest",
        "module/test_losses.py::test_ordinal_targets_are_a_gaussian_over_expressed_bins",
    ],
    "smoothing is spread over the whole vocabulary": [
        "module/test_module_loss.py::test_genes_push_the_words_of_bins_only",
        "module/test_module_loss.py::test_smoothing_stays_within_a_phenotype",
    ],
    "NaN becomes the top bin, a negative value is a KeyError": [
        "abilities/test_predict.py::test_expression_of_another_kind_is_refused",
        "data/read/test_scale.py::test_refused_with_the_right_remedy",
    ],
    "missing or unseen labels crash": [
        "model/training/test_training.py::test_unknown_labels_train",
        "model/test_saving.py::test_labels_that_are_not_known_are_said_once",
        "data/read/test_phenotypes.py::test_unseen_labels_are_unknown_and_named",
    ],
    "rows of the confusion matrix are off by one": [
        "abilities/test_score_tokens.py::test_as_scikit_learn_counts_collected_answers",
        "abilities/test_score_tokens.py::test_names_of_the_tables",
        "pl/test_token_confusion.py::test_words_that_do_not_occur_are_left_out",
    ],
    "pooled accuracy counts genes that are not expressed": [
        "tl/test_score_tokens.py::test_expressed_genes_stand_apart",
    ],
    "flags for epochs, batch size, learning rate and device are ignored": [
        "model/training/test_training.py::test_trainer_arguments_reach_the_trainer",
        "model/training/test_training.py::test_plan_arguments_reach_the_plan",
        "model/training/test_training.py::test_masking_reaches_the_feed",
    ],
    "every shard must have the same number of cells": [
        "data/shards/test_shard_set.py::test_cells_are_numbered_through_all_files",
        "model/training/test_shards.py::test_a_set_that_fits_is_trained_as_in_memory",
    ],
    "data-parallel training is switched off": [
        "data/feed/test_loader.py::test_ranks_partition_each_global_batch",
        "data/feed/test_loader.py::test_splitter_divides_batches_among_processes",
        "module/test_module_loss.py::test_parts_with_global_denominators_average_to_the_whole",
    ],
    "evaluation keeps all logits in memory": [
        "abilities/test_score_tokens.py::test_memory_does_not_grow_with_hidden_words",
        "abilities/test_score_tokens.py::test_logits_are_given_up_with_their_batch",
    ],
}


@pytest.mark.parametrize("defect", ELSEWHERE)
def test_tests_that_stand_elsewhere_are_there(defect):
    for name in ELSEWHERE[defect]:
        path, _, test = name.partition("::")
        tree = ast.parse((TESTS / path).read_text())
        assert test in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, name


def model_of(adata, **kwargs):
    Polygene.setup_anndata(adata, phenotype_keys=["cell_type", "sex"])
    return Polygene(adata, **{"genes": list(adata.var_names), **SMALL, **kwargs})


@pytest.fixture(scope="module")
def model(_simulated):
    model = model_of(_simulated.copy(), init_std=0.3)  # so that words of phenotypes matter
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a calibration on few cells
        model.train(max_epochs=1, enable_progress_bar=False)
    return model


def assert_same(a, b, tolerance=1e-5):
    for name in a:
        np.testing.assert_allclose(a[name], b[name], rtol=0, atol=tolerance)


# labels and expression


def test_filtered_cells_keep_their_own_labels(model, simulated):
    """The original filters expression by tissue and takes the labels of the unfiltered cells."""
    chosen = np.flatnonzero(simulated.obs["cell_type"] == "T cell")
    some = simulated[chosen].copy()
    every = model.predict_phenotype(simulated, given="sex")
    expected = {name: table.iloc[chosen] for name, table in every.items()}
    assert_same(model.predict_phenotype(some, given="sex"), expected)
    some.obs["sex"] = simulated.obs["sex"].to_numpy()[: len(some)]  # as the original pairs them
    other = model.predict_phenotype(some, given="sex")["cell_type"]
    assert np.abs(other.to_numpy() - expected["cell_type"].to_numpy()).max() > 1e-2


def test_raw_counts_are_normalised(model, simulated):
    """The original bins raw counts as if they were log1p of counts per 10,000."""
    logged = simulated.copy()
    sc.pp.normalize_total(logged, target_sum=1e4)
    sc.pp.log1p(logged)
    assert_same(model.predict_phenotype(simulated), model.predict_phenotype(logged), 1e-4)
    table = [model._cells(x, np.arange(20)).read_all().cells for x in (simulated, logged)]
    np.testing.assert_allclose(table[0].values, table[1].values, rtol=1e-5)
    assert (table[0].values < simulated.X.max()).all()


def test_a_word_of_another_slot_is_no_value(model, simulated):
    """In the original any slot accepts any word, as in ``sex="liver"``."""
    simulated.obs["sex"] = "T cell"
    with pytest.warns(UserWarning, match=r"obs\['sex'\]: the model was not trained on \['T cell'\]"):
        given = model.predict_phenotype(simulated, given="sex")
    assert_same(given, model.predict_phenotype(simulated), 0)


def test_predictions_are_words_of_the_slot(model, simulated):
    """Whatever the words of other slots say."""
    before = model.predict_phenotype(simulated)
    bias = model.module.head.bias
    sex = list(model.layout.phenotypes[model.layout.phenotype_names.index("sex")].ids)
    others = [i for i in range(model.layout.n_tokens) if i not in sex]
    kept = bias.detach().clone()
    with torch.no_grad():
        bias[others] += 50
    try:
        after = model.predict_phenotype(simulated)
    finally:
        bias.data = kept
    assert list(after["sex"]) == ["female", "male"]
    np.testing.assert_allclose(after["sex"].sum(1), 1, atol=1e-6)
    assert_same({"sex": after["sex"]}, before)


# settings that do what they say


@pytest.mark.parametrize(
    ("given", "reached"),
    [
        ({"n_hidden": 24, "n_layers": 3, "n_heads": 4, "n_intermediate": 40}, None),
        ({"n_bins": 5}, lambda model: model.layout.n_bins == len(model.edges_) == 5),
        ({"n_bins": 2, "binning": [0.0, 0.5]}, lambda model: model.edges_ == [0.0, 0.5]),
        ({"n_bins": 3, "binning": [0.0, 1.5, 4.0]}, lambda model: model.edges_ == [0.0, 1.5, 4.0]),
    ],
    ids=["sizes", "number of bins", "threshold", "range of expression"],
)
def test_sizes_threshold_and_range_of_expression_are_not_ignored(given, reached, simulated):
    model = model_of(simulated[:40].copy(), **given)
    if reached is None:
        assert given.items() <= model.module.config.to_dict().items()
        assert len(model.module.encoder.blocks) == 3
        assert model.module.encoder.embeddings.word.weight.shape[1] == 24
        return
    model.train(max_epochs=1, validation_size=0, enable_progress_bar=False)
    assert reached(model)


@pytest.mark.parametrize("rate", [0.1, 0.9])
def test_phenotypes_are_hidden_at_the_rate_not_at_its_complement(rate, model, simulated):
    dataset = BatchDataset(
        model._cells(simulated, np.arange(300)).read_all(),
        MaskingRates(hide_all=0.0, hide_each=rate),
        seed=0,
        fixed_epoch=0,
    )
    hidden = dataset[(0, np.arange(300))]["phenotype_hidden"]
    assert abs(float(hidden.float().mean()) - rate) < 0.06  # 600 draws: four standard deviations


# feed


@pytest.mark.slow
def test_spawned_workers_read(model, simulated):
    dataset = BatchDataset(model._cells(simulated, np.arange(60)).read_all(), MaskingRates(), seed=3)
    sampler = LengthSampler(dataset.table.cells.lengths, 16)
    loader = DataLoader(dataset, sampler=sampler, batch_size=None, num_workers=1, multiprocessing_context="spawn")
    batches = list(loader)
    assert len(batches) == 4
    for batch, key in zip(batches, sampler, strict=True):
        for name, expected in dataset[key].items():
            assert torch.equal(batch[name], expected), name


def test_a_batch_costs_no_call_per_word(model, simulated):
    """The original's collator rebuilds a list for each word."""

    def calls(adata, rows):
        dataset = BatchDataset(model._cells(adata, rows).read_all(), MaskingRates(), seed=0)
        counted = 0

        def count(frame, event, argument):
            nonlocal counted
            counted += event in ("call", "c_call")

        at = np.arange(len(rows))
        dataset[(0, at)]  # what is computed once
        sys.setprofile(count)
        try:
            batch = dataset[(0, at)]
        finally:
            sys.setprofile(None)
        return counted, batch["tokens"].numel()

    rows = np.arange(8)
    short = simulated.copy()
    short.X = short.X.multiply(np.arange(short.n_vars) < 12).tocsr()
    few, many = calls(short, rows), calls(simulated, np.tile(np.arange(80), 5))
    assert many[1] > 50 * few[1]
    assert many[0] < 1.5 * few[0]


# what is kept with a model


def test_genes_edges_and_vocabulary_are_saved_with_a_model(model, simulated, tmp_path):
    """With the original they are guessed anew from whatever is at hand."""
    model.save(tmp_path / "model")
    shuffled = simulated[:, np.random.default_rng(0).permutation(simulated.n_vars)].copy()
    shuffled.obs = shuffled.obs[["donor"]]
    loaded = Polygene.load(tmp_path / "model", adata=False)
    assert (loaded.genes, loaded.edges_, loaded.layout) == (model.genes, model.edges_, model.layout)
    assert loaded.categories == {"cell_type": ["B cell", "NK cell", "T cell"], "sex": ["female", "male"]}
    for name, table in model.predict_phenotype(simulated).items():
        pd.testing.assert_frame_equal(loaded.predict_phenotype(shuffled)[name], table, atol=1e-5)
