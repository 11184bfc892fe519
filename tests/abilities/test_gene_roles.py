"""Roles of genes, against embeddings averaged by pandas."""

import numpy as np
import pandas as pd
import pytest

from polygene_scverse.abilities._gene_roles import gene_roles
from polygene_scverse.abilities._gene_states import find_pairs
from polygene_scverse.engine import Engine, _engine


@pytest.mark.parametrize("block", [2048, 11], ids=["one block", "blocks"])
def test_roles_are_means_of_the_embedding(block, trained_model, query, monkeypatch):
    model = trained_model
    contexts, groups, codes = find_pairs(query, "sex", "donor", np.arange(query.n_obs))
    monkeypatch.setattr(_engine, "BLOCK", block)
    engine = Engine(model.module, 7)
    found = gene_roles(engine, model.fitted_, model._cells(query), (contexts, groups), codes, [0, 1])
    embedded = model.get_latent_representation(query)
    counts = query[:, model.genes].X.toarray()
    x = np.log1p(1e4 * counts / query.X.toarray().sum(1, keepdims=True))
    number = np.log((counts > 0).sum(1))
    pair = query.obs["sex"].astype(str) + query.obs["donor"].astype(str)
    for p, name in enumerate(c + g for c, g in zip(contexts, groups, strict=True)):
        own = (pair == name).to_numpy()
        for gene in (0, 3, 20):
            cells = own & (counts[:, gene] > 0)
            assert found.n_cells[p, gene] == cells.sum()
            np.testing.assert_allclose(found.expression[p, gene], x[own, gene].mean(), atol=1e-5)
            if not cells.any():
                assert not found.roles[p, gene].any()
                continue
            expected = embedded[cells].mean(0) - embedded[own].mean(0)
            np.testing.assert_allclose(found.roles[p, gene], expected, atol=1e-5)
            expected = [
                np.log(cells.sum() / own.sum()),
                x[cells, gene].mean(),
                number[cells].mean() - number[own].mean(),
            ]
            np.testing.assert_allclose(found.covariates[p, gene], expected, atol=1e-5)
    assert pd.Series(pair).nunique() == len(contexts)


def test_one_phenotype_may_be_left_out(trained_model, query):
    model = trained_model
    contexts, groups, codes = find_pairs(query, "sex", "donor", np.arange(query.n_obs))
    arguments = (Engine(model.module), model.fitted_, model._cells(query), (contexts, groups), codes)
    both, first, second = (gene_roles(*arguments, slots).roles for slots in ([0, 1], [0], [1]))
    np.testing.assert_allclose(both, (first + second) / 2, atol=1e-6)
    assert np.abs(first - second).max() > 1e-3
