import anndata as ad
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, precision_recall_fscore_support

import polygene_scverse as pgs


def row(scores, tokens, of=""):
    (found,) = scores[(scores["tokens"] == tokens) & (scores["of"] == of)].to_dict("records")
    return found


def answers(matrix):
    """The pairs that a confusion matrix counts."""
    true, guessed = np.indices(matrix.shape)
    return np.repeat(true.ravel(), matrix.ravel()), np.repeat(guessed.ravel(), matrix.ravel())


def expected_of(true, guessed, labels=None):
    scores = precision_recall_fscore_support(true, guessed, labels=labels, average="macro", zero_division=0)
    return dict(zip(("precision", "recall", "f1"), scores[:3], strict=True))


@pytest.fixture
def scored(trained):
    cells, _ = trained
    return cells, pgs.tl.score_tokens(cells)


def test_rows_and_columns(scored):
    _, scores = scored
    expected = [("all", ""), ("genes", ""), ("genes", "expressed"), ("genes", "not expressed")]
    expected += [("genes", "bin of expressed"), ("phenotypes", "transformer")]
    expected += [("phenotypes", f"transformer, {name}") for name in ("cell_type", "sex")]
    assert list(scores[["tokens", "of"]].itertuples(index=False, name=None)) == expected
    columns = ["tokens", "of", "n", "n_classes", "accuracy", "precision", "recall", "f1", "zero_offset", "nll"]
    assert list(scores) == columns


def test_scores_are_those_of_scikit_learn(scored):
    cells, scores = scored
    genes = answers(pgs.get.token_confusion(cells).to_numpy())
    phenotypes = {name: answers(pgs.get.token_confusion(cells, name).to_numpy()) for name in ("cell_type", "sex")}
    together = tuple(np.concatenate([phenotypes["cell_type"][i], 3 + phenotypes["sex"][i]]) for i in (0, 1))
    everything = tuple(np.concatenate([genes[i], 10 + together[i]]) for i in (0, 1))
    cases = {("all", ""): everything, ("genes", ""): genes, ("phenotypes", "transformer"): together}
    cases |= {("phenotypes", f"transformer, {name}"): pairs for name, pairs in phenotypes.items()}
    for key, pairs in cases.items():
        found = row(scores, *key)
        assert found["n"] == len(pairs[0])
        assert found["accuracy"] == pytest.approx(accuracy_score(*pairs))
        assert {name: found[name] for name in ("precision", "recall", "f1")} == pytest.approx(expected_of(*pairs))


def test_expressed_genes_stand_apart(scored):
    cells, scores = scored
    true, guessed = answers(pgs.get.token_confusion(cells).to_numpy())
    for of, labels in (("expressed", range(1, 10)), ("not expressed", [0])):
        found, these = row(scores, "genes", of), np.isin(true, labels)
        assert found["n"] == these.sum()
        assert found["accuracy"] == pytest.approx(accuracy_score(true[these], guessed[these]))
        expected = expected_of(true, guessed, labels=labels)
        assert {name: found[name] for name in expected} == pytest.approx(expected)
    assert row(scores, "genes", "bin of expressed")["n"] == row(scores, "genes", "expressed")["n"]


def test_the_correction_is_stated(trained):
    cells, model = trained
    scores = pgs.tl.score_tokens(cells)
    offsets = {(r["tokens"], r["of"]): r["zero_offset"] for r in scores.to_dict("records")}
    assert offsets["genes", ""] == model.count_hidden_tokens(cells).zero_offset > 0  # few genes are not expressed
    assert offsets["all", ""] == offsets["genes", "expressed"] == offsets["genes", ""]
    assert np.isnan([offsets["phenotypes", "transformer"], offsets["genes", "bin of expressed"]]).all()
    assert row(pgs.tl.score_tokens(cells, masking="original"), "genes")["zero_offset"] == 0


def test_arguments_reach_the_model(trained):
    cells, model = trained
    arguments = {"masking": "original", "balance": 0.0, "seed": 4}
    scores = pgs.tl.score_tokens(cells, batch_size=13, **arguments)
    counts = model.count_hidden_tokens(cells, **arguments)
    pd.testing.assert_frame_equal(pgs.get.token_confusion(cells), counts.genes)
    pd.testing.assert_frame_equal(pgs.get.token_confusion(cells, "sex"), counts.phenotypes["sex"])
    assert row(scores, "genes")["n"] == counts.genes.to_numpy().sum()
    assert cells.uns["polygene"]["tokens"]["seed"] == 4
    assert cells.uns["polygene"]["tokens"]["rates"]["not_expressed"] == 0.15


def test_nll_of_each_row(trained):
    """Means over the tokens of the row; shown phenotypes are not scored."""
    cells, model = trained
    scores = pgs.tl.score_tokens(cells, given="sex", hidden_share=0.5, seed=2)
    counts = model.count_hidden_tokens(cells, given="sex", hidden_share=0.5, seed=2)
    sums = {("genes", ""): counts.nll.genes.sum(), ("genes", "expressed"): counts.nll.genes[1:].sum()}
    sums |= {("genes", "not expressed"): counts.nll.genes[0], ("genes", "bin of expressed"): counts.nll.expressed.sum()}
    of_cell_type = counts.nll.phenotypes["cell_type"].sum()
    sums |= {("phenotypes", of): of_cell_type for of in ("transformer", "transformer, cell_type")}
    sums["all", ""] = sums["genes", ""] + of_cell_type
    for key, expected in sums.items():
        assert row(scores, *key)["nll"] == pytest.approx(expected / row(scores, *key)["n"]), key
        assert row(scores, *key)["nll"] > 0
    of_sex = row(scores, "phenotypes", "transformer, sex")
    assert of_sex["n"] == 0
    assert np.isnan([of_sex["nll"], of_sex["accuracy"]]).all()
    note = cells.uns["polygene"]["tokens"]
    assert (note["given"], note["hidden_share"]) == (["sex"], 0.5)
    pgs.tl.score_tokens(cells)
    assert cells.uns["polygene"]["tokens"]["given"] == []
    assert np.isnan(cells.uns["polygene"]["tokens"]["hidden_share"])


def test_a_folder_as_the_model_and_another_key(trained, tmp_path):
    cells, model = trained
    model.save(tmp_path / "model")
    other = cells[:100].copy()
    pgs.tl.score_tokens(other, model=tmp_path / "model", key_added="mine")
    pgs.tl.score_tokens(other, model=model)
    assert set(other.uns["polygene"]) == {"train", "mine", "tokens"}
    assert pgs.get.token_confusion(other, key="mine").equals(pgs.get.token_confusion(other))


def test_the_note_survives_a_file(scored, tmp_path):
    cells, scores = scored
    cells.write_h5ad(tmp_path / "cells.h5ad")
    read = ad.read_h5ad(tmp_path / "cells.h5ad")
    for phenotype in (None, "cell_type"):
        expected = pgs.get.token_confusion(cells, phenotype)
        pd.testing.assert_frame_equal(pgs.get.token_confusion(read, phenotype), expected)
    noted = pgs.get.token_scores(read)[list(scores)]
    pd.testing.assert_frame_equal(noted, scores, check_dtype=False)


def test_two_bins(cells, small):
    kwargs = {**small["model_kwargs"], "n_bins": 2}
    pgs.tl.train(cells, phenotypes=["cell_type", "sex"], **{**small, "model_kwargs": kwargs})
    scores = pgs.tl.score_tokens(cells)
    assert pgs.get.token_confusion(cells).shape == (2, 2)
    assert row(scores, "genes", "bin of expressed")["accuracy"] == 1  # there is one such bin
    assert row(scores, "genes", "expressed")["n"] == row(scores, "genes", "not expressed")["n"] > 100
    assert row(scores, "genes")["accuracy"] > 0.5


@pytest.mark.parametrize("balance", [-0.1, 1.1])
def test_a_balance_that_cannot_be(trained, balance):
    with pytest.raises(ValueError, match=r"`balance`: found .*, but it must be between 0"):
        pgs.tl.score_tokens(trained[0], balance=balance)


def test_masking_that_is_not_known(trained):
    with pytest.raises(ValueError, match="`masking`: found 'theirs'"):
        pgs.tl.score_tokens(trained[0], masking="theirs")
