"""What genes add to a prediction: against predictions with and without them, and by hand for the linear path."""

import numpy as np
import pytest
import torch

from polygene_scverse.abilities._explain_prediction import soonest
from polygene_scverse.abilities._predict import phenotype_logits
from polygene_scverse.engine import Engine, Query
from polygene_scverse.module import _linear_path


@pytest.fixture
def model(trained_model, apart):
    model = apart(trained_model)
    model.fitted_.linear_share = [0.6, 0.3]
    return model


def expected_contributions(model, cells):
    """Change of the calibrated logits when a gene is silent; (n_cells, n_genes, n_categories). And in full."""
    engine, source = Engine(model.module), model._cells(cells)
    full, *without = (
        phenotype_logits(engine, model.fitted_, source, query)[0].astype(float) / model.temperature("cell_type")
        for query in (Query(), *(Query(genes=((gene, 0, 0.0),)) for gene in range(len(model.genes))))
    )
    return np.stack([full - other for other in without], axis=1), full


def assert_expected(model, cells, found):
    of_gene, full = expected_contributions(model, cells)
    for i, (own, other) in enumerate(zip(found.codes, found.against, strict=True)):
        assert own != other
        expected = of_gene[i, :, own] - of_gene[i, :, other]
        np.testing.assert_allclose(found.contributions[i].toarray()[0], expected, atol=2e-5)
        left = {}
        for k in set(range(full.shape[1])) - {own}:
            speaks = np.sort(of_gene[i, :, own] - of_gene[i, :, k])[::-1][:20]
            left[k] = full[i, own] - full[i, k] - speaks[speaks > 0].sum()
        assert left[other] <= min(left.values()) + 1e-4


def test_contributions_are_what_is_lost_when_a_gene_is_silent(model, query):
    found = model.explain_prediction(query, phenotype="cell_type")
    assert_expected(model, query, found)
    assert len(set(zip(found.codes, found.against, strict=True))) > 3
    second = np.argsort(found.probabilities, axis=1)[:, -2]
    assert (found.against != second).any()


def logits_of(model, cells, silent, linear_share):
    """Logits of the first phenotype if the genes in `silent` are not expressed, with both paths weighted as told."""
    model.fitted_.linear_share = [linear_share, linear_share]
    asked = Query(genes=tuple((int(gene), 0, 0.0) for gene in silent))
    return phenotype_logits(Engine(model.module), model.fitted_, model._cells(cells), asked)[0][0].astype(float)


def test_contributions_of_a_transformer_that_reads_few_genes(model, query, monkeypatch):
    """Genes that are not read count linearly, and without a gene no other one is read in its place."""
    monkeypatch.setattr(_linear_path, "FEWEST", 3)
    cells, linear, share = query[:6].copy(), model.module.linear, model.fitted_.linear_share[0]
    genes = set(range(len(model.genes)))
    monkeypatch.setitem(linear._buffers, "share_read", torch.tensor(0.0))
    found = model.explain_prediction(cells, phenotype="cell_type")
    monkeypatch.setitem(linear._buffers, "share_read", torch.tensor(1.0))
    for i, (own, other) in enumerate(zip(found.codes, found.against, strict=True)):
        cell = cells[[i]]
        expressed = np.flatnonzero(cell[:, list(model.genes)].X.toarray()[0])
        read = expressed[np.argsort(-linear.ranks[expressed].numpy())[:3]]
        expected, unread = np.zeros(len(genes)), genes - set(read)
        for gene in expressed:
            added = share * (logits_of(model, cell, [], 1.0) - logits_of(model, cell, [gene], 1.0))
            if gene in read:
                without = logits_of(model, cell, unread | {gene}, 0.0)
                added += (1 - share) * (logits_of(model, cell, unread, 0.0) - without)
            expected[gene] = (added[own] - added[other]) / model.temperature("cell_type")
        np.testing.assert_allclose(found.contributions[i].toarray()[0], expected, atol=2e-5)
        assert len(expressed) > 3


def test_the_category_that_a_cell_would_soonest_be_by_hand():
    added = np.zeros((1, 25, 3))
    added[0, :, 1], added[0, 0, 2] = 0.1, 3.0  # 20 of the first kind are 2, the other is 3
    log_p = np.log([[0.9, 0.06, 0.04]])
    assert soonest(added, log_p, np.array([0])).tolist() == [2]
    assert soonest(added[:, :, :2], np.log([[0.9, 0.1]]), np.array([0])).tolist() == [1]
    assert soonest(-added, log_p, np.array([0])).tolist() == [1]  # nothing speaks for it


def test_a_linear_model_is_explained_by_weight_times_expression(model, query):
    model.fitted_.linear_share = [1.0, 1.0]
    found = model.explain_prediction(query, phenotype="cell_type", category="cell_type_1")
    linear = {name: buffer.numpy().astype(float) for name, buffer in model.module.linear.named_buffers()}
    counts = query.X.toarray()
    x = np.minimum(np.log1p(1e3 * counts / counts.sum(1, keepdims=True))[:, :36], linear["cap"])
    weights = linear["weights"][:, :3].T
    expected = x * (weights[1] - weights[found.against]) / model.temperature("cell_type")
    np.testing.assert_allclose(found.contributions.toarray(), expected, atol=1e-4)
    assert (found.codes == 1).all()


def test_without_a_linear_path_the_transformer_counts_in_full(trained, cells):
    model = trained(cells(60), {"linear_path": False})
    assert_expected(model, model.adata, model.explain_prediction(phenotype="cell_type"))


def test_categories_and_probabilities_are_those_that_are_predicted(model, query):
    model.fitted_.category_counts = [np.array([400.0, 2.0, 2.0]), np.array([30.0, 50.0])]  # balance matters
    found, expected = model.explain_prediction(query, phenotype="cell_type"), model.predict_phenotype(query)
    np.testing.assert_allclose(found.probabilities, expected["cell_type"], atol=1e-6)
    np.testing.assert_array_equal(found.codes, model.decide(expected)["cell_type"].cat.codes)
    assert (found.codes != found.probabilities.argmax(1)).any()


def test_without_the_first_genes_the_prediction_falls_more_than_without_random_ones(model, query):
    found = model.explain_prediction(query, phenotype="cell_type")
    at = np.arange(query.n_obs)
    before = found.probabilities[at, found.codes].mean()
    dense, counts = found.contributions.toarray(), query.X.toarray()[:, :36]
    rng, left = np.random.default_rng(0), {}
    for name, scores in (("first", dense), ("random", rng.random(dense.shape))):
        without = query.copy()
        x = query.X.toarray()
        for i, order in enumerate(np.argsort(-np.where(counts > 0, scores, -np.inf), axis=1)):
            x[i, 36:] += x[i, order[:4]].sum() / 4  # to a gene that is not the model's: the total stays
            x[i, order[:4]] = 0
        without.X = x
        left[name] = model.predict_phenotype(without)["cell_type"].to_numpy()[at, found.codes].mean()
    assert left["first"] < left["random"] - 0.1 < before


def test_batches_change_nothing(model, query):
    found = model.explain_prediction(query, phenotype="cell_type", indices=np.arange(7))
    other = model.explain_prediction(query, phenotype="cell_type", indices=np.arange(7), batch_size=2)
    np.testing.assert_allclose(found.contributions.toarray(), other.contributions.toarray(), atol=1e-5)


def test_a_gene_that_is_not_expressed_adds_nothing(model, query):
    found = model.explain_prediction(query, phenotype="sex").contributions.toarray()
    assert (found[query.X.toarray()[:, :36] == 0] == 0).all()
    assert (found != 0).any()


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"phenotype": "organ"}, "`phenotype`: found 'organ'"),
        ({"category": "neuron"}, "`category`: found 'neuron'"),
        ({"indices": []}, "`indices`: found none"),
    ],
)
def test_what_cannot_be_asked_is_refused(arguments, match, model, query):
    with pytest.raises(ValueError, match=match):
        model.explain_prediction(query, **{"phenotype": "cell_type", **arguments})
