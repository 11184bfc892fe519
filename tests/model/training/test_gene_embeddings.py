"""Gene embeddings start at principal components and effects of categories, in new networks only."""

import numpy as np
import scipy.sparse as sp
from scipy.stats import pearsonr

from polygene_scverse.model.training import _gene_embeddings
from polygene_scverse.model.training._gene_embeddings import DEVIATIONS, LARGEST, init_gene_embeddings

FROZEN = {"max_epochs": 1, "enable_progress_bar": False, "plan_kwargs": {"lr": 0.0}}
SPLIT = (np.arange(150), np.arange(150, 200))


def embeddings_of(model):
    """Position embeddings of the genes; shape (n_genes, n_hidden)."""
    first, weights = model.layout.first_gene_position, model.module.encoder.embeddings.position.weight
    return weights[first : first + model.layout.n_genes].detach().numpy().copy()


def test_genes_that_vary_together_start_together(cells, model_of):
    """Loadings against those of numpy's SVD of log1p of counts, not clipped: the leading direction is the same."""
    model = model_of(cells(200))
    before = embeddings_of(model)
    model.train(**FROZEN, split=SPLIT)
    found = embeddings_of(model)
    table = model._cells(model.adata, SPLIT[0]).read_all()
    x = table.cells.matrix(model.layout.n_genes).toarray()
    x = np.log1p(np.expm1(x) / 10)
    x = (x - x.mean(0)) / (x.std(0) + 0.2)
    leading = np.linalg.svd(x, full_matrices=False)[2][0]
    assert abs(pearsonr(found[:, 0], leading)[0]) > 0.95
    n_random = model.module.config.n_hidden // 4
    np.testing.assert_array_equal(found[:, -n_random:], before[:, -n_random:])
    assert not np.isclose(found[:, 0], before[:, 0]).any()


def test_scale_and_outliers(cells, model_of):
    model = model_of(cells(200))
    model.train(**FROZEN, split=SPLIT)
    found = embeddings_of(model)[:, : model.module.config.n_hidden // 2]
    unit = DEVIATIONS * model.module.config.init_std
    np.testing.assert_allclose(found[:, :3].std(axis=0), unit, rtol=0.25)  # clipped ones are smaller
    assert np.abs(found).max() <= LARGEST * unit * (1 + 1e-6)


def test_effects_are_those_of_the_decoder(cells, model_of):
    """With one phenotype of two categories the only direction is the difference of their log odds."""
    model = model_of(cells(200))
    model.train(**FROZEN, split=SPLIT)
    decoder, n_half = model.module.gene_decoder, model.module.config.n_hidden // 2
    share = decoder.bias.exp()[:, 1:]
    effects = (decoder.odds[:, 1:].log() * (share / share.sum(1, keepdim=True))[..., None]).sum(1).numpy()
    left = np.linalg.svd(effects - effects.mean(0), full_matrices=False)[0]
    found = embeddings_of(model)[:, n_half]
    assert abs(pearsonr(found, left[:, 0])[0]) > 0.98


def test_a_trained_network_keeps_its_embeddings(cells, model_of):
    model = model_of(cells(200))
    model.train(max_epochs=1, enable_progress_bar=False, split=SPLIT)
    learned = embeddings_of(model)
    model.train(**FROZEN, split=SPLIT)
    np.testing.assert_array_equal(embeddings_of(model), learned)


def test_of_more_cells_a_draw_is_used(monkeypatch, cells, model_of):
    monkeypatch.setattr(_gene_embeddings, "MAX_NUMBERS", 60 * 40)  # of 40 genes
    found = []
    for seed in (0, 0, 1):
        model = model_of(cells(200))
        model.train(**FROZEN, split=SPLIT, seed=seed)
        found.append(embeddings_of(model))
    np.testing.assert_array_equal(found[0], found[1])
    assert not np.array_equal(found[0], found[2])


def test_with_too_few_cells_or_no_expression_they_stay_random(cells, model_of):
    model = model_of(cells(40), gene_decoder=False)
    before = embeddings_of(model)
    trained = model_of(cells(40))
    trained.train(**FROZEN)
    table = trained._cells(cells(40), np.arange(40)).read_all()
    silent = cells(40)
    silent.X = sp.csr_matrix(silent.X.multiply(np.arange(40)[:, None] == 0))  # but for the first cell
    unexpressed = trained._cells(silent, np.arange(1, 40)).read_all()
    for few in (table.read(np.arange(2)), unexpressed):
        init_gene_embeddings(model.module, few, seed=0)
        np.testing.assert_array_equal(embeddings_of(model), before)
    init_gene_embeddings(model.module, table, seed=0)
    assert not np.array_equal(embeddings_of(model), before)
