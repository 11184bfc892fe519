import gc
import re
import weakref

import anndata as ad
import lightning.pytorch as pl
import mudata as md
import numpy as np
import pytest

import polygene_scverse as pgs
from polygene_scverse.data.read._expression import Expression
from polygene_scverse.data.read._ranking import rank_genes


def test_phenotypes_are_found_and_everything_is_noted(cells, small):
    before = cells.copy()
    model = pgs.tl.train(cells, **small)
    note = cells.uns["polygene"]["train"]
    assert note["phenotypes"] == list(model.layout.phenotype_names) == ["sex", "cell_type"]
    assert note["scale"] == "counts"
    assert note["n_genes"] == model.layout.n_genes == cells.n_vars
    assert len(note["history"]["train_loss"]) == 2
    np.testing.assert_array_equal(note["validation"], model.validation_indices)
    new = set(cells.uns) - set(before.uns)
    assert new == {"polygene", "_scvi_uuid", "_scvi_manager_uuid"}
    assert (cells.X != before.X).nnz == 0
    assert cells.obs.equals(before.obs)
    assert cells.var.equals(before.var)


def test_the_summary_says_what_was_decided(cells, small, capsys):
    pgs.tl.train(cells, phenotypes="cell_type", group_key="donor", **{**small, "verbose": True})
    said = capsys.readouterr().out
    for word in ("counts", "cell_type", "donor", str(cells.n_vars), "layers"):
        assert word in said


def test_columns_that_are_not_learned_are_named(cells, small, capsys):
    cells.obs["arm"] = np.where(np.arange(cells.n_obs) % 2, "left", "right")
    cells.obs["batch"] = np.where(np.arange(cells.n_obs) % 3, "b1", "b2")
    cells.obs["polygene_sex"] = "male"
    pgs.tl.train(cells, group_key="batch", **{**small, "verbose": True})
    assert "not learned ['donor', 'arm'];" in " ".join(capsys.readouterr().out.replace("│", "").split())
    pgs.tl.train(cells, phenotypes="sex", **{**small, "verbose": True})
    assert "not learned" not in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore:'unknown' of:UserWarning")
def test_final_scores_are_said_and_noted(cells, small, capsys):
    names = ["cell_type", "sex"]
    model = pgs.tl.train(cells, phenotypes=names, **{**small, "verbose": True})
    said = " ".join(capsys.readouterr().out.split())
    history = pgs.get.history(cells)
    for name in names:
        accuracy, f1 = (model.history_[f"{name}_{score}_final"].iloc[0, 0] for score in ("accuracy", "macro_f1"))
        expected = f"{name}: accuracy {accuracy:.3f} and macro-F1 {f1:.3f} on the held-out cells"
        assert expected in said
        assert history[f"{name}_accuracy_final"].isna().tolist() == [True, False]
        assert history[f"{name}_accuracy_final"].iloc[-1] == accuracy
    assert history["gene_nll_validation"].notna().all()


def test_whole_groups_are_held_out_and_genes_ranked_on_the_others(cells, small):
    kwargs = {"phenotypes": "cell_type", "group_key": "donor", "n_genes": 20, **small}
    model = pgs.tl.train(cells, validation_size=0.17, **kwargs)
    donors = cells.obs["donor"].astype(str)
    train, held_out = donors.iloc[model.train_indices], donors.iloc[model.validation_indices]
    assert len(held_out)
    assert not set(train) & set(held_out)
    ranks = rank_genes(Expression.of(cells), np.asarray(model.train_indices))
    assert model.genes == list(ranks.sort_values().index[:20])


@pytest.mark.filterwarnings("ignore:`group_key`. phenotypes that depend on 'donor':UserWarning")
@pytest.mark.parametrize("n_donors", [1, 6])
def test_of_few_groups_all_are_in_training(cells, small, capsys, n_donors):
    """And what is said of new ones follows from them."""
    cells.obs["donor"] = [f"donor{i % n_donors}" for i in range(cells.n_obs)]
    model = pgs.tl.train(cells, phenotypes="cell_type", group_key="donor", **{**small, "verbose": True})
    assert cells.obs["donor"].iloc[model.train_indices].nunique() == n_donors
    entry = model.calibration_["cell_type"]
    assert (entry["n_groups"], entry["n_training_groups"]) == (0, n_donors)
    assert entry["factor"] > 1.0
    said = " ".join(capsys.readouterr().out.split())
    assert f"cell_type: {entry['note']}" in said
    assert f"all {n_donors} groups" in said


def test_ranks_in_var_decide(cells, small):
    cells.var["highly_variable_rank"] = np.arange(cells.n_vars)[::-1].astype(float)
    model = pgs.tl.train(cells, phenotypes="cell_type", n_genes=5, **small)
    assert model.genes == list(cells.var_names[::-1][:5])


def test_a_given_split_is_kept(cells, small):
    split = np.arange(0, 200), np.arange(200, cells.n_obs)
    model = pgs.tl.train(cells, phenotypes="cell_type", split=split, **small)
    np.testing.assert_array_equal(model.train_indices, split[0])
    np.testing.assert_array_equal(model.validation_indices, split[1])


def test_a_group_on_both_sides_is_refused(cells, small):
    split = np.arange(0, 200), np.arange(200, cells.n_obs)  # donors take turns
    with pytest.raises(ValueError, match=r"`split`: the groups .* are on both sides"):
        pgs.tl.train(cells, phenotypes="cell_type", split=split, group_key="donor", **small)


def test_without_validation_there_is_none(cells, small):
    model = pgs.tl.train(cells, phenotypes="cell_type", validation_size=0, **small)
    assert "validation_loss" not in model.history_
    assert len(model.train_indices) == cells.n_obs


def test_the_note_survives_a_file(trained, tmp_path):
    cells, _ = trained
    cells.write_h5ad(tmp_path / "cells.h5ad")
    read = ad.read_h5ad(tmp_path / "cells.h5ad")
    note, before = read.uns["polygene"]["train"], cells.uns["polygene"]["train"]
    assert list(note["phenotypes"]) == before["phenotypes"]
    np.testing.assert_allclose(note["history"]["train_loss"], before["history"]["train_loss"])


def test_one_modality_of_mudata(cells, small):
    other = cells[:, :3].copy()
    other.var_names = ["protein1", "protein2", "protein3"]
    with md.set_options(pull_on_update=False):
        data = md.MuData({"rna": cells, "other": other})
    model = pgs.tl.train(data, phenotypes="cell_type", **small)
    pgs.tl.predict_phenotype(data)
    assert "polygene_cell_type" in data.mod["rna"].obs
    assert model.layout.n_genes == cells.n_vars


ERRORS = {
    "no phenotype": (
        {},
        lambda a: a.obs.drop(columns=["cell_type", "sex"], inplace=True),
        ValueError,
        "found None, but no column of adata.obs",
    ),
    "unknown column": ({"phenotypes": "celltype"}, None, KeyError, r"'celltype'.*cell_type"),
    "group": ({"group_key": "batch"}, None, KeyError, r"`group_key`: \['batch'\] are not columns"),
    "layer": ({"layer": "counts"}, None, KeyError, r"`layer`: 'counts' is not one of"),
    "raw": ({"use_raw": True}, None, ValueError, r"`use_raw`: found True, but adata.raw is empty"),
    "negative": ({}, lambda a: a.X.data.__setitem__(0, -1.0), ValueError, r"negative values \(lowest -1\)"),
    "nan": ({}, lambda a: a.X.data.__setitem__(0, np.nan), ValueError, r"values of adata.X are NaN"),
}


@pytest.mark.parametrize(("arguments", "spoil", "error", "match"), ERRORS.values(), ids=ERRORS)
def test_bad_input(cells, small, arguments, spoil, error, match):
    cells.X = cells.X.astype(np.float32)
    if spoil is not None:
        spoil(cells)
    with pytest.raises(error, match=match):
        pgs.tl.train(cells, **arguments, **small)


def test_scaled_data_with_usable_raw_names_it(cells, small):
    cells.raw = cells.copy()
    cells.X = cells.X.toarray() - 1.0
    with pytest.raises(ValueError, match=re.escape("Pass unscaled data, here for example by use_raw=True")):
        pgs.tl.train(cells, **small)
    assert pgs.tl.train(cells, use_raw=True, **small).is_trained


def test_a_view_is_refused(cells, small):
    with pytest.raises(ValueError, match=r"found a view.*Pass adata.copy\(\)"):
        pgs.tl.train(cells[:50], **small)


def test_ordered_phenotypes(cells, small, tmp_path):
    """In memory and from a file: the expected age stands in obs."""
    cells.obs["age"] = np.array(["5-year-old stage", "34-year-old stage", "80 year-old and over stage"])[
        np.arange(cells.n_obs) % 3
    ]
    cells.write_h5ad(tmp_path / "cells.h5ad")
    for data in (cells, tmp_path / "cells.h5ad"):
        model = pgs.tl.train(data, phenotypes=["age", "sex"], ordered=["age"], **{**small, "max_epochs": 1})
        pgs.tl.predict_phenotype(cells, model=model)
        values = [{"5": 5, "3": 34, "8": 80}[label[0]] for label in model.categories["age"]]
        np.testing.assert_allclose(
            cells.obs["polygene_age_expected"], cells.obsm["polygene_age_proba"] @ values, rtol=1e-5
        )
        assert "polygene_sex_expected" not in cells.obs


def test_after_an_interruption_other_verbs_find_what_was_learned(cells, small):
    class Interrupt(pl.Callback):
        def on_train_epoch_start(self, trainer, plan):
            if trainer.current_epoch == 1:
                raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        pgs.tl.train(cells, phenotypes=["cell_type", "sex"], callbacks=[Interrupt()], **small)
    assert "polygene" not in cells.uns
    pgs.tl.predict_phenotype(cells)
    assert "polygene_sex" in cells.obs


def test_data_are_not_kept_in_memory():
    adata = pgs.datasets.simulate(n_obs=60, n_vars=30, seed=3)
    known = weakref.ref(adata)
    model = pgs.tl.train(adata, max_epochs=1, verbose=False)
    del adata, model
    gc.collect()
    assert known() is None


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("further", [False, True])
def test_an_error_leaves_no_identifiers(cells, small, before, further):
    """Also those of a model of another kind are as they were."""
    arguments = {"model": pgs.tl.train(cells.copy(), phenotypes="sex", **small)} if further else {"phenotypes": "sex"}
    if before:
        pgs.model.Polygene.setup_anndata(cells, phenotype_keys="cell_type")
    uns = dict(cells.uns)
    with pytest.raises(TypeError, match="`plan_kwargs`: unknown argument 'nonsense'"):
        pgs.tl.train(cells, plan_kwargs={"nonsense": 1}, max_epochs=1, verbose=False, **arguments)
    assert dict(cells.uns) == uns
