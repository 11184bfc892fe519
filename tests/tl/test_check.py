"""The verb hands on to the model's check; what is in the answers is tested there."""

import pytest

import polygene_scverse as pgs
from polygene_scverse.model._check import check


def test_answers_are_those_of_the_model(simulated, small):
    model = pgs.tl.train(simulated, phenotypes=["cell_type"], n_genes=40, **small)
    query = simulated[:20].copy()
    query.var["probe"] = query.var_names
    query.var_names = [f"x{i}" for i in range(query.n_vars)]
    found = pgs.tl.check(query, model=model, gene_symbols="probe")
    assert dict(found) == check(model, query, gene_symbols="probe")
    assert found["genes matched"] == "40 of the model's 40 genes, by var['probe']"
    assert dict(pgs.tl.check(simulated)) == check(model, simulated)
    with pytest.raises(KeyError, match=r"`gene_ids`: 'no' is not a column of adata\.var"):
        pgs.tl.check(query, model=model, gene_ids="no")
