import warnings

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from mudata import MuData
from sklearn.metrics import accuracy_score, f1_score, log_loss

import polygene_scverse as pgs
from polygene_scverse import metrics

BASELINES = ["majority", "kNN on PCs", "logistic regression on PCs"]


@pytest.fixture(scope="module")
def evaluated(_simulated, small):
    cells = _simulated.copy()
    donor = cells.obs["donor"].cat.codes.to_numpy()
    cells.obs["disease"] = pd.Categorical(np.array(["flu", "healthy"])[donor % 2])
    arguments = {"group_key": "donor", "split": 3, "baselines": BASELINES, "n_bootstrap": 40, "n_null": 1}
    phenotypes = ["cell_type", "disease"]
    return cells, pgs.tl.evaluate(cells, phenotypes=phenotypes, train_kwargs=small, **arguments)


def test_table(evaluated):
    cells, table = evaluated
    methods = table.groupby("phenotype")["method"].unique()
    assert list(methods["cell_type"]) == ["Polygene", *BASELINES]
    assert list(methods["disease"]) == ["Polygene", *BASELINES, "Polygene, labels permuted between groups"]
    assert set(table["score"]) == {"accuracy", "balanced_accuracy", "macro_f1", "macro_f1_10", "ece", "nll"}
    n_known = cells.obs["cell_type"].notna().sum()
    assert set(table.loc[table["phenotype"] == "cell_type", "n_cells"]) == {n_known}
    assert (table["n_groups"] == 6).all()
    assert table["value"].notna().all()


def test_baselines_learn_what_is_there(evaluated):
    values = evaluated[1].set_index(["phenotype", "method", "score"])["value"]
    assert values["cell_type", "logistic regression on PCs", "accuracy"] > 0.8
    assert values["cell_type", "majority", "accuracy"] < 0.5


def test_everything_is_stored_and_survives_a_file(evaluated, tmp_path):
    cells, table = evaluated
    pd.testing.assert_frame_equal(pgs.get.evaluation(cells), table)
    stored = cells.uns["polygene"]["evaluate"]
    folds = cells.obs.groupby("donor", observed=True).agg(n=("cell_type", "size")).assign(fold=-1)
    assert set(stored["folds"]) == {0, 1, 2}
    for donor in folds.index:
        assert len(set(stored["folds"][cells.obs["donor"] == donor])) == 1
    cells.write_h5ad(tmp_path / "cells.h5ad")
    read = ad.read_h5ad(tmp_path / "cells.h5ad")
    pd.testing.assert_frame_equal(pgs.get.evaluation(read), table)
    by_group = pgs.get.evaluation(cells, by_group=True)
    pd.testing.assert_frame_equal(pgs.get.evaluation(read, by_group=True), by_group)
    assert set(by_group["group"]) == set(cells.obs["donor"])
    assert list(stored["notes"]) == list(read.uns["polygene"]["evaluate"]["notes"])


def test_only_documented_keys_are_written(evaluated, simulated):
    cells, _ = evaluated
    assert set(cells.uns) == {"polygene"}
    assert set(cells.uns["polygene"]) == {"evaluate"}
    assert cells.obs.drop(columns="disease").equals(simulated.obs)
    assert not cells.obsm
    assert (cells.X != simulated.X).nnz == 0


def test_figures_are_those_of_a_model_trained_on_the_training_side(cells, small, capsys):
    split = np.flatnonzero(cells.obs["donor"] != "donor2"), np.flatnonzero(cells.obs["donor"] == "donor2")
    table = pgs.tl.evaluate(
        cells, group_key="donor", phenotypes="cell_type", split=split, baselines=[], n_bootstrap=0, train_kwargs=small
    )
    printed = capsys.readouterr().out
    side, test = cells[split[0]].copy(), cells[split[1]].copy()
    model = pgs.tl.train(side, phenotypes="cell_type", group_key="donor", **small)
    proba = model.predict_phenotype(test)["cell_type"]
    decided = model.decide({"cell_type": proba})["cell_type"]
    codes = pd.Categorical(test.obs["cell_type"], categories=proba.columns).codes.astype(int)
    values = table.set_index("score")["value"]
    assert values["accuracy"] == pytest.approx(metrics.accuracy(codes, decided.cat.codes))
    assert values["macro_f1"] == pytest.approx(metrics.macro_f1(codes, decided.cat.codes))
    assert values["nll"] == pytest.approx(metrics.nll(codes, proba))
    assert values["ece"] == pytest.approx(metrics.ece(codes, proba))
    assert table["low"].isna().all()
    assert "1 held-out group of 'donor'" in printed
    assert (cells.uns["polygene"]["evaluate"]["folds"] == np.where(cells.obs["donor"] == "donor2", 0, -1)).all()


def test_categories_without_training_cells_are_left_out(cells, small):
    split = np.flatnonzero(cells.obs["donor"] != "donor2"), np.flatnonzero(cells.obs["donor"] == "donor2")
    label = cells.obs["cell_type"].astype(object)
    label.iloc[split[1][:8]] = "plasma cell"
    cells.obs["cell_type"] = label
    arguments = {"group_key": "donor", "phenotypes": "cell_type", "baselines": "majority", "n_bootstrap": 2}
    table = pgs.tl.evaluate(cells, split=split, train_kwargs=small, **arguments)
    n_known = cells.obs["cell_type"].iloc[split[1]].notna().sum()
    assert set(table["n_cells"]) == {n_known - 8}
    notes = pgs.get.evaluation(cells).attrs["notes"]
    assert "cell_type: 8 test cells have a category without training cells and are left out." in notes


def test_without_groups_a_sentence_tells(cells, small, capsys):
    table = pgs.tl.evaluate(cells, phenotypes="sex", split=2, baselines=[], n_bootstrap=5, train_kwargs=small)
    assert "scores on new donors will be lower" in capsys.readouterr().out
    assert (table["n_groups"] == 1).all()
    with pytest.raises(KeyError, match="`by_group`: the evaluation was made without groups"):
        pgs.get.evaluation(cells, by_group=True)


def test_a_trained_model_is_scored_on_what_it_predicts(trained, capsys):
    """By scikit-learn, of what predict_phenotype writes; in the table of a training in folds."""
    cells, model = trained
    table = pgs.tl.evaluate(cells, model=model, phenotypes="cell_type", group_key="donor", n_bootstrap=20)
    printed = capsys.readouterr().out
    assert list(table["method"].unique()) == ["Polygene", "majority"]
    pd.testing.assert_frame_equal(pgs.get.evaluation(cells), table)
    assert set(pgs.get.evaluation(cells, by_group=True)["group"]) == set(cells.obs["donor"])
    assert "predicted by a trained model; the scores hold for new donors only if no cells of these" in printed
    pgs.tl.predict_phenotype(cells, model=model)
    known = cells.obs["cell_type"].notna().to_numpy()
    truth = cells.obs["cell_type"].astype(str)[known]
    values = table.set_index(["method", "score"])["value"]
    predicted = cells.obs["polygene_cell_type"].astype(str)[known]
    assert values["Polygene", "accuracy"] == pytest.approx(accuracy_score(truth, predicted))
    assert values["Polygene", "macro_f1"] == pytest.approx(f1_score(truth, predicted, average="macro"))
    proba = model.predict_phenotype(cells)["cell_type"][known]
    assert values["Polygene", "nll"] == pytest.approx(log_loss(truth, proba, labels=list(proba)), rel=1e-4)
    codes = model.codes(model.train_indices)["cell_type"]
    shares = np.bincount(codes[codes >= 0]) / (codes >= 0).sum()
    expected = log_loss(truth, np.tile(shares, (known.sum(), 1)), labels=list(proba))
    assert values["majority", "nll"] == pytest.approx(expected, rel=1e-4)
    assert (table["n_groups"] == cells.obs["donor"].nunique()).all()


def test_cells_of_a_category_that_the_model_lacks_are_counted(trained):
    cells, model = trained
    cells.obs["cell_type"] = cells.obs["cell_type"].astype(object)
    cells.obs.loc[cells.obs_names[:7], "cell_type"] = "astrocyte"
    table = pgs.tl.evaluate(cells, model=model, n_bootstrap=5)
    notes = pgs.get.evaluation(cells).attrs["notes"]
    assert "cell_type: 7 cells have a category without training cells and are left out." in notes
    assert table.loc[table["phenotype"] == "cell_type", "n_cells"].iloc[0] == cells.obs["cell_type"].notna().sum() - 7
    assert set(table["phenotype"]) == set(model.categories)


def test_a_trained_model_is_scored_on_cells_of_one_category(trained):
    cells, model = trained
    some = cells[(cells.obs["cell_type"] == "B cell").to_numpy()].copy()
    table = pgs.tl.evaluate(some, model=model, phenotypes="cell_type", n_bootstrap=5)
    pgs.tl.predict_phenotype(some, model=model)
    accuracy = table.set_index(["method", "score"])["value"]["Polygene", "accuracy"]
    assert accuracy == pytest.approx((some.obs["polygene_cell_type"] == "B cell").mean())


def test_labels_that_training_read_as_missing_are_no_category(cells, small):
    cells.obs["sex"] = cells.obs["sex"].cat.rename_categories({"unknown": "none"}).fillna("none")
    model = pgs.tl.train(cells, phenotypes=["cell_type", "sex"], missing=["none"], **small)
    pgs.tl.evaluate(cells, model=model, n_bootstrap=5)
    assert not any("left out" in note for note in pgs.get.evaluation(cells).attrs["notes"])


MODEL_ERRORS = {
    "split": ({"split": 3}, ValueError, r"`model`: passed together with \['split'\]"),
    "others": (
        {"baselines": [], "n_null": 1, "train_kwargs": {"max_epochs": 1}},
        ValueError,
        r"\['baselines', 'n_null', 'train_kwargs'\], which have no effect",
    ),
    "layer": (
        {"layer": "counts", "use_raw": True},
        ValueError,
        r"`model`: passed together with \['layer', 'use_raw'\]",
    ),
    "phenotype": ({"phenotypes": "age"}, ValueError, "`phenotypes`: found 'age', but it must be one of"),
    "group": ({"group_key": "batch"}, KeyError, r"`group_key`: \['batch'\] are not columns"),
}


@pytest.mark.parametrize(("arguments", "error", "match"), MODEL_ERRORS.values(), ids=MODEL_ERRORS)
def test_refused_beside_a_model(trained, arguments, error, match):
    cells, model = trained
    before = set(cells.uns["polygene"])
    with pytest.raises(error, match=match):
        pgs.tl.evaluate(cells, model=model, **arguments)
    assert set(cells.uns["polygene"]) == before


def test_without_recorded_values_there_is_nothing_to_score(trained):
    cells, model = trained
    cells.obs = cells.obs.drop(columns=list(model.columns.values()))
    with pytest.raises(ValueError, match="`adata`: obs has none of the columns"):
        pgs.tl.evaluate(cells, model=model)


ERRORS = {
    "phenotype": ({"phenotypes": "celltype"}, KeyError, r"`phenotypes`: \['celltype'\]"),
    "group": ({"group_key": "batch"}, KeyError, r"`group_key`: \['batch'\] are not columns"),
    "baseline": ({"baselines": "xgb"}, ValueError, "`baselines`: found 'xgb'"),
    "folds": ({"group_key": "donor", "split": 7}, ValueError, "`split`: found 7 folds for 6 groups of 'donor'"),
}


@pytest.mark.parametrize(("arguments", "error", "match"), ERRORS.values(), ids=ERRORS)
def test_bad_arguments(cells, arguments, error, match):
    with pytest.raises(error, match=match):
        pgs.tl.evaluate(cells, **arguments)


@pytest.mark.parametrize(
    "where",
    [{"layer": "counts"}, {"use_raw": True}, {"train_kwargs": {"layer": "counts"}}],
    ids=["layer", "raw", "layer of training"],
)
def test_expression_elsewhere(cells, small, where):
    """X cannot be used; the figures are those of the counts."""
    donor = cells.obs["donor"].cat.codes.to_numpy()
    cells.obs["disease"] = np.array(["flu", "healthy"])[donor % 2]
    arguments = {"group_key": "donor", "phenotypes": "disease", "split": 2, "n_bootstrap": 2, "n_null": 1}
    arguments["baselines"] = ["kNN on PCs"]
    fast = {**small, "max_epochs": 1}
    expected = pgs.tl.evaluate(cells, train_kwargs=fast, **arguments)
    cells.layers["counts"], cells.raw = cells.X, cells.copy()
    cells.X = -cells.X
    where = where | {"train_kwargs": fast | where.get("train_kwargs", {})}
    table = pgs.tl.evaluate(cells, **where, **arguments)
    pd.testing.assert_frame_equal(table, expected)


def test_one_modality_of_mudata(trained):
    cells, model = trained
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        data = MuData({"gex": cells.copy()})
    found = pgs.tl.evaluate(data, model=model, mod="gex", phenotypes="sex", n_bootstrap=5)
    pd.testing.assert_frame_equal(found, pgs.tl.evaluate(cells, model=model, phenotypes="sex", n_bootstrap=5))
    pd.testing.assert_frame_equal(pgs.get.evaluation(data["gex"]), found)
    with pytest.raises(KeyError, match=r"`mod`: 'rna' is not one of the modalities \['gex'\]"):  # trained on AnnData
        pgs.tl.evaluate(data, model=model)


def test_no_phenotype_is_named(trained):
    cells, model = trained
    with pytest.raises(ValueError, match="`phenotypes`: found an empty list"):
        pgs.tl.evaluate(cells, model=model, phenotypes=[])
