import anndata as ad
import numpy as np
import pandas as pd
import pytest

import polygene_scverse as pgs
from polygene_scverse import metrics
from polygene_scverse.tl import _evaluate

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
    assert list(stored["words"]) == list(read.uns["polygene"]["evaluate"]["words"])


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
    words = pgs.get.evaluation(cells).attrs["words"]
    assert "cell_type: 8 test cells are of a category without training cells, and left out." in words


def test_without_groups_a_sentence_tells(cells, small, capsys):
    table = pgs.tl.evaluate(cells, phenotypes="sex", split=2, baselines=[], n_bootstrap=5, train_kwargs=small)
    assert "every figure is an upper bound" in capsys.readouterr().out
    assert (table["n_groups"] == 1).all()
    with pytest.raises(KeyError, match="`by_group`: the evaluation was made without groups"):
        pgs.get.evaluation(cells, by_group=True)


def test_a_trained_model_is_scored_on_hidden_tokens(trained, monkeypatch):
    cells, model = trained
    passed = []
    monkeypatch.setattr(_evaluate, "score_tokens", lambda *args, **kwargs: passed.append((args, kwargs)) or "table")
    assert pgs.tl.evaluate(cells, model=model, seed=3) == "table"
    assert passed == [((cells,), {"model": model, "seed": 3})]


ERRORS = {
    "phenotype": ({"phenotypes": "celltype"}, KeyError, r"`phenotypes`: \['celltype'\]"),
    "group": ({"group_key": "batch"}, KeyError, r"`group_key`: \['batch'\] not among"),
    "baseline": ({"baselines": "xgb"}, ValueError, "`baselines`: found 'xgb'"),
    "folds": ({"group_key": "donor", "split": 7}, ValueError, "`split`: found 7 folds for 6 groups of 'donor'"),
}


@pytest.mark.parametrize(("arguments", "error", "match"), ERRORS.values(), ids=ERRORS)
def test_bad_arguments(cells, arguments, error, match):
    with pytest.raises(error, match=match):
        pgs.tl.evaluate(cells, **arguments)


@pytest.mark.parametrize("where", [{"layer": "counts"}, {"use_raw": True}], ids=["layer", "raw"])
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
    table = pgs.tl.evaluate(cells, train_kwargs=fast | where, **arguments)
    pd.testing.assert_frame_equal(table, expected)
