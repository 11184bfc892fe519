"""The fields with the manager of scvi-tools."""

import numpy as np
import pandas as pd
import pytest
import torch
from anndata import AnnData
from mudata import MuData
from scvi.data import AnnDataManager

from polygene_scverse._constants import PHENOTYPE_FIELD, X_FIELD
from polygene_scverse.data.read._fields import ExpressionField, PhenotypeField
from polygene_scverse.data.read._phenotypes import categories_of

KEYS = ["cell_type", "sex"]
CATEGORIES = {"cell_type": ["B cell", "NK cell", "T cell"], "sex": ["female", "male"]}


def register(data, keys=KEYS, mod=None, **place):
    manager = AnnDataManager([ExpressionField(**place, mod_key=mod), PhenotypeField(keys, mod_key=mod)], {})
    manager.register_fields(data)
    return manager


def state(manager, field):
    return manager.registry["field_registries"][field]["state_registry"]


def test_registration(simulated):
    obs, x = simulated.obs.copy(), simulated.X.copy()
    manager = register(simulated)
    assert state(manager, PHENOTYPE_FIELD) == {"categories": CATEGORIES, "unseen": {}, "ordered": {}}
    assert state(manager, X_FIELD) == {"n_obs": 300, "n_vars": 60, "column_names": list(simulated.var_names)}
    assert dict(manager.summary_stats) == {"n_vars": 60, "n_cells": 300, "n_phenotypes": 2}
    pd.testing.assert_frame_equal(simulated.obs, obs)
    assert (x != simulated.X).nnz == 0


def test_field_data(simulated):
    codes = PhenotypeField(KEYS).get_field_data(simulated)
    assert codes.shape == (300, 2)
    np.testing.assert_array_equal(codes[:, 0], simulated.obs["cell_type"].cat.codes)
    np.testing.assert_array_equal(codes[:, 1] == -1, simulated.obs["sex"].isna())
    assert ExpressionField().get_field_data(simulated) is simulated.X


@pytest.mark.parametrize("place", [{"layer": "l"}, {"use_raw": True}], ids=["layer", "raw"])
def test_expression_of_another_place(place, simulated):
    simulated.raw = simulated.copy()
    data = simulated[:, :20].copy()
    data.layers["l"] = data.X.copy()
    manager = register(data, **place)
    assert state(manager, X_FIELD)["n_vars"] == (20 if "layer" in place else 60)
    x = ExpressionField(**place).get_field_data(data)
    expected = data.layers["l"] if "layer" in place else simulated.X
    assert (x != expected).nnz == 0


def test_registry_is_plain(simulated, tmp_path):
    """It can be read without unpickling code."""
    manager = register(simulated)
    manager = manager.transfer_fields(simulated[:50].copy())
    states = {field: state(manager, field) for field in (X_FIELD, PHENOTYPE_FIELD)}
    torch.save(states, tmp_path / "states.pt")
    assert torch.load(tmp_path / "states.pt", weights_only=True) == states


def other_data():
    """Other genes, other labels, a phenotype column that is missing."""
    obs = pd.DataFrame({"cell_type": ["T cell", "monocyte", None, "B cell"]}, index=list("abcd"))
    return AnnData(np.ones((4, 3), dtype=np.float32), obs=obs, var=pd.DataFrame(index=["gene1", "new", "gene0"]))


def test_transfer_to_other_genes_and_labels(simulated):
    manager, target = register(simulated), other_data()
    with pytest.warns(UserWarning, match=r"adata\.obs\['cell_type'\]: the model was not trained on \['monocyte'\]"):
        other = manager.transfer_fields(target)
    expected = {"categories": CATEGORIES, "unseen": {"cell_type": ["monocyte"]}, "ordered": {}}
    assert state(other, PHENOTYPE_FIELD) == expected
    assert state(other, X_FIELD) == {"n_obs": 4, "n_vars": 3, "column_names": ["gene1", "new", "gene0"]}
    assert state(manager, PHENOTYPE_FIELD)["unseen"] == {}
    labels = target.obs["cell_type"].astype(object)
    assert labels.where(labels.notna(), None).tolist() == ["T cell", "monocyte", None, "B cell"]


def test_transfer_without_unseen_labels_is_quiet(simulated):
    """Missing values, and a level that is used by no cell, are no news."""
    target = simulated[simulated.obs["cell_type"] != "T cell"].copy()
    other = register(simulated).transfer_fields(target)
    assert state(other, PHENOTYPE_FIELD) == {"categories": CATEGORIES, "unseen": {}, "ordered": {}}


def test_transfer_from_a_saved_registry(simulated):
    """What loading a model does."""
    registry = register(simulated).registry
    fields = [ExpressionField(), PhenotypeField(KEYS)]
    manager = AnnDataManager(fields, {})
    manager.register_fields(simulated[::2].copy(), registry)
    assert state(manager, PHENOTYPE_FIELD)["categories"] == CATEGORIES
    assert state(manager, X_FIELD)["n_obs"] == 150


def test_mudata(simulated):
    rna = simulated.copy()
    protein = AnnData(np.ones((300, 2), dtype=np.float32), obs=pd.DataFrame(index=simulated.obs_names))
    mdata = MuData({"rna": rna, "protein": protein})
    manager = register(mdata, mod="rna")
    assert state(manager, PHENOTYPE_FIELD)["categories"] == CATEGORIES
    assert state(manager, X_FIELD)["column_names"] == list(rna.var_names)
    field = PhenotypeField(KEYS, mod_key="rna")
    np.testing.assert_array_equal(field.get_field_data(mdata), PhenotypeField(KEYS).get_field_data(simulated))
    other = manager.transfer_fields(mdata[:40].copy())
    assert state(other, X_FIELD)["n_obs"] == 40
    with pytest.raises(KeyError, match=r"`mod`: 'atac' is not one of the modalities \['rna', 'protein'\]"):
        register(mdata, mod="atac")


@pytest.mark.parametrize(
    ("keys", "error", "message"),
    [
        (["celltype"], KeyError, r"`phenotypes`: \['celltype'\] are not columns"),
        (["one"], ValueError, r"adata\.obs\['one'\] has only one category"),
        (["none"], ValueError, r"all 300 values of adata\.obs\['none'\] are missing"),
    ],
    ids=["unknown", "one category", "missing"],
)
def test_phenotypes_that_cannot_be_registered(keys, error, message, simulated):
    simulated.obs = simulated.obs.assign(one="x", none=None)
    with pytest.raises(error, match=message):
        register(simulated, keys)


def test_repeated_gene_names_are_refused(simulated):
    simulated.var_names = ["gene0", *simulated.var_names[:-1]]
    with pytest.raises(ValueError, match=r"1 names occur more than once in adata\.var_names, e\.g\. \['gene0'\]"):
        register(simulated)


def test_setup_is_shown_as_a_table(simulated):
    manager = register(simulated)
    table = PhenotypeField(KEYS).view_state_registry(state(manager, PHENOTYPE_FIELD))
    assert [list(column.cells) for column in table.columns] == [KEYS, [str(CATEGORIES[key]) for key in KEYS]]
    assert ExpressionField().view_state_registry(state(manager, X_FIELD)) is None


def test_categories_are_those_of_the_column(pbmc):
    manager = register(pbmc, ["bulk_labels", "phase"])
    categories = state(manager, PHENOTYPE_FIELD)["categories"]
    assert categories == {key: categories_of(pbmc.obs[key]) for key in ("bulk_labels", "phase")}
    assert [len(c) for c in categories.values()] == [10, 3]
