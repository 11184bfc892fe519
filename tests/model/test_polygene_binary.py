"""Two bins: a gene is expressed or not, from training to a saved model."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import confusion_matrix, roc_auc_score
from torch.nn import functional as F

from polygene_scverse.data.feed._rates import ORIGINAL_RATES
from polygene_scverse.engine import Query, RandomHiding
from polygene_scverse.model import Polygene

BINARY = {"n_bins": 2, "binning": [0.0, 5.5]}


@pytest.fixture(scope="module")
def binary():
    """Cells of which some genes are expressed above the threshold, and a model of them."""
    from polygene_scverse.datasets import simulate

    adata = simulate(120, 40, effect=2.0, missing=0.1)
    Polygene.setup_anndata(adata, phenotype_keys=["cell_type", "sex"])
    small = {"n_hidden": 16, "n_layers": 1, "n_heads": 2, "n_intermediate": 16}
    model = Polygene(adata, genes=list(adata.var_names), **small, **BINARY)
    model.train(max_epochs=20, validation_size=0.2, enable_progress_bar=False, plan_kwargs={"lr": 0.01})
    return adata, model


def batch_of(model, adata, rates=ORIGINAL_RATES):
    rows = np.arange(adata.n_obs)
    return Query(hiding=RandomHiding(rates)).batch(model._cells(adata).read_all(), rows)


def gene_logits(model, batch):
    model.module.eval()
    with torch.no_grad():
        outputs = model.module.inference(**model.module._get_inference_input(batch))
        return model.module.generative(**outputs)["gene_logits"]


def test_the_threshold_decides(binary):
    adata, model = binary
    x = adata.X.toarray()
    expressed = np.log1p(x / x.sum(1, keepdims=True) * 1e4) >= 5.5
    cells = model._cells(adata, np.arange(adata.n_obs)).read_all().cells
    assert set(cells.bins) == {1}
    np.testing.assert_array_equal(cells.lengths, expressed.sum(1))
    assert 0.1 < expressed.mean() < 0.6


def test_the_loss_is_binary_cross_entropy(binary):
    adata, model = binary
    batch = batch_of(model, adata)
    logits, bins = gene_logits(model, batch), batch["target_bins"]
    known = bins >= 0
    expected = F.binary_cross_entropy_with_logits(
        (logits[..., 1] - logits[..., 0])[known], bins[known].float(), reduction="sum"
    )
    with torch.no_grad():
        outputs = model.module.inference(**model.module._get_inference_input(batch))
        parts = model.module.loss_parts(batch, model.module.generative(**outputs))
    assert parts[:, 0].sum().item() == pytest.approx(expected.item(), rel=1e-5)


def test_it_learns_which_genes_are_expressed(binary):
    adata, model = binary
    held_out = adata[np.asarray(model.validation_indices)].copy()
    batch = batch_of(model, held_out)
    logits, bins = gene_logits(model, batch), batch["target_bins"]
    known = (bins >= 0).numpy()
    difference = (logits[..., 1] - logits[..., 0]).numpy()
    assert roc_auc_score(bins.numpy()[known], difference[known]) > 0.7
    losses = model.history_["gene_loss_validation"].astype(float)
    assert losses.iloc[-1, 0] < losses.iloc[0, 0]


def test_it_predicts_and_embeds_from_what_is_expressed_alone(binary):
    _, model = binary
    tables = model.predict_phenotype()
    np.testing.assert_allclose(tables["sex"].sum(axis=1), 1, rtol=1e-5)
    codes, guess = model.codes()["cell_type"], tables["cell_type"].to_numpy().argmax(1)
    assert np.mean((guess == codes)[codes >= 0]) > 0.6
    assert model.get_latent_representation().shape == (120, 16)
    assert model.get_latent_representation(pooling="genes").std() > 0


def test_a_saved_model_is_the_same(binary, tmp_path):
    adata, model = binary
    model.save(tmp_path / "model")
    other = Polygene.load(tmp_path / "model", adata=False)
    assert other.edges_ == [0.0, 5.5]
    assert other.layout.n_bins == 2
    for name, table in model.predict_phenotype(adata).items():
        pd.testing.assert_frame_equal(other.predict_phenotype(adata)[name], table)
    np.testing.assert_array_equal(other.get_latent_representation(adata), model.get_latent_representation(adata))
    pd.testing.assert_frame_equal(other.count_hidden_tokens(adata).genes, model.count_hidden_tokens(adata).genes)


def test_hidden_genes_are_scored(binary):
    adata, model = binary
    batch = batch_of(model, adata)
    bins = batch["target_bins"]
    known = bins >= 0
    guess = gene_logits(model, batch).argmax(-1)
    counts = model.count_hidden_tokens(adata, masking="original")
    np.testing.assert_array_equal(counts.genes, confusion_matrix(bins[known], guess[known], labels=[0, 1]))
    assert counts.expressed.shape == (1, 1)


def test_quantile_bins_take_every_count_as_expressed(cells, trained):
    model = trained(model_kwargs={"n_bins": 2})
    assert model.edges_ == [0.0, np.nextafter(0.0, 1.0)]
    lengths = model._cells(model.adata, np.arange(60)).read_all().cells.lengths
    np.testing.assert_array_equal(lengths, np.diff(model.adata.X.indptr))
