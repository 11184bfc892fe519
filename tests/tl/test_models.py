import gc
import weakref

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import polygene_scverse as pgs
from polygene_scverse.tl import _models


def test_the_model_trained_on_this_object_is_found(trained):
    cells, model = trained
    found = _models.find(cells, None)
    assert found.module is model.module
    assert found.adata is None


def test_a_copy_is_another_object(trained):
    cells, _ = trained
    with pytest.raises(ValueError, match=r"`model`: none was passed.*pgs\.tl\.train\(adata\) first, or pass model="):
        pgs.tl.predict_phenotype(cells.copy())


def test_a_model_or_its_folder_can_be_passed(trained, tmp_path):
    cells, model = trained
    model.save(tmp_path / "model")
    other = cells[:20].copy()
    for given in (model, tmp_path / "model", str(tmp_path / "model")):
        pgs.tl.predict_phenotype(other, model=given)
        np.testing.assert_allclose(
            other.obsm["polygene_sex_proba"], model.predict_phenotype(other)["sex"], rtol=1e-5, atol=1e-6
        )


def test_the_noted_folder_is_found_after_reading_a_file(cells, small, tmp_path):
    pgs.tl.train(cells, phenotypes="sex", save_to=tmp_path / "model", **small)
    cells.write_h5ad(tmp_path / "cells.h5ad")
    read = ad.read_h5ad(tmp_path / "cells.h5ad")
    pgs.tl.predict_phenotype(read)
    assert "polygene_sex" in read.obs


def test_something_else_is_no_model(cells):
    with pytest.raises(TypeError, match=r"`model`: found int\. Pass a Polygene model or the folder"):
        pgs.tl.predict_phenotype(cells, model=3)


def test_a_folder_that_does_not_exist(cells):
    with pytest.raises(FileNotFoundError, match="`model`: there is no folder nowhere"):
        pgs.tl.predict_phenotype(cells, model="nowhere")


def test_something_else_is_no_data():
    with pytest.raises(TypeError, match=r"`adata`: found list, but AnnData or MuData is needed"):
        pgs.tl.predict_phenotype([1, 2])


def test_nothing_is_kept_of_data_that_are_gone(simulated):
    class Stub:
        def without_data(self):
            return self

    data = simulated.copy()
    key, gone = id(data), weakref.ref(data)
    _models.remember(data, Stub())
    assert key in _models._TRAINED
    del data
    gc.collect()
    assert gone() is None
    assert key not in _models._TRAINED


VERBS_OF_GENES = {
    "rank_genes": lambda c, **k: pgs.tl.rank_genes(c, "sex", n_cells=1, **k),
    "explain_prediction": lambda c, **k: pgs.tl.explain_prediction(c, c.obs_names[:3], **k),
    "biomarkers": lambda c, **k: pgs.tl.biomarkers(c, "sex", contexts="cell_type", n_cells=1, **k),
    "polyfunctionality": lambda c, **k: pgs.tl.polyfunctionality(c, "sex", **k),
    "gene_embeddings": lambda c, **k: pgs.tl.gene_embeddings(c, groupby="sex", **k),
    "gene_interactions": lambda c, **k: pgs.tl.gene_interactions(c, groupby="sex", **k),
    "perturb": lambda c, **k: pgs.tl.perturb(c, ["gene1"], n_null=2, **k),
    "score_tokens": lambda c, **k: pgs.tl.score_tokens(c, **k),
    "evaluate": lambda c, **k: pgs.tl.evaluate(c, phenotypes="sex", n_bootstrap=2, **k),
    "audit": lambda c, **k: pgs.tl.audit(c, phenotypes="sex", **k),
}


def result_of(verb, cells, returned):
    """What a verb of genes found, as numbers, in the order of the genes of the model, whatever the data call them."""
    names = cells.var["symbol"]
    if verb == "rank_genes":
        table = cells.uns["polygene_rank_genes"]
        return pd.Series(table["scores"]["male"], index=names[table["names"]["male"]].to_numpy()).sort_index()
    if verb in ("biomarkers", "polyfunctionality"):
        table = cells.uns["polygene"][verb]["table"]
        keys = ["gene"] + (["category", "context"] if verb == "biomarkers" else [])
        return table.set_index(keys)["score" if verb == "biomarkers" else "shift"].sort_index()
    if verb in ("score_tokens", "evaluate"):
        return returned.select_dtypes("number").fillna(1.0)
    if verb == "audit":
        return cells.obs["polygene_audit_sex"].dropna()
    if verb == "perturb":
        return returned.to_df().fillna(1.0)
    if verb == "explain_prediction":
        return returned.to_df().rename(columns=names).sort_index(axis=1)
    if verb == "gene_embeddings":
        return returned.to_df().sort_index()
    return pd.DataFrame(cells.varm["polygene_gene_interactions_n_cells"], index=names.to_numpy())


@pytest.mark.parametrize(("verb", "call"), VERBS_OF_GENES.items(), ids=VERBS_OF_GENES.keys())
@pytest.mark.filterwarnings("ignore:`group_key`")
def test_verbs_of_genes_take_columns_of_names(verb, call, trained):
    cells, model = trained
    cells.var["symbol"] = cells.var_names
    other = cells.copy()
    other.var_names = [f"id{i}" for i in range(other.n_vars)]
    found = result_of(verb, other, call(other, model=model, gene_symbols="symbol"))
    expected = result_of(verb, cells, call(cells, model=model))
    assert found.index.equals(expected.index)
    assert np.abs(expected.to_numpy()).max() > 0
    np.testing.assert_allclose(found.to_numpy(), expected.to_numpy(), atol=1e-5)
