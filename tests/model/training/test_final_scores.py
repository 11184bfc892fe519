"""The history ends with the scores of the model that is handed over."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, f1_score

from polygene_scverse.model import Polygene
from polygene_scverse.model.training._final_scores import final_sentences, with_final_scores, without_final_scores

SCORES = ("accuracy", "macro_f1")


def test_they_are_those_of_the_predictions(cells, trained):
    """Both paths, calibrated, by the default rule of decision; at the last epoch."""
    model = trained(cells(200, missing=0.1), validation_size=0.4, max_epochs=3)
    rows = model.validation_indices
    decided = model.decide(model.predict_phenotype(indices=rows))
    assert min(model.fitted_.linear_share) > 0
    for name, codes in model.codes(rows).items():
        guess, known = decided[name].cat.codes.to_numpy(), codes >= 0
        found = [model.history_[f"{name}_{score}_final"] for score in SCORES]
        expected = accuracy_score(codes[known], guess[known]), f1_score(codes[known], guess[known], average="macro")
        assert [table.iloc[0, 0] for table in found] == pytest.approx(expected)
        for table in found:
            assert (table.index.tolist(), table.index.name) == ([2], "epoch")
    assert model.history_["cell_type_accuracy_final"].iloc[0, 0] > 0.3


def test_they_are_saved(trained, tmp_path):
    model = trained(max_epochs=2)
    model.save(tmp_path / "model")
    loaded = Polygene.load(tmp_path / "model", adata=False)
    for score in SCORES:
        name = f"sex_{score}_final"
        pd.testing.assert_frame_equal(loaded.history_[name], model.history_[name], check_dtype=False)


def test_a_further_training_replaces_them(trained):
    model = trained(max_epochs=2)
    model.train(max_epochs=1, enable_progress_bar=False)
    table = model.history_["sex_accuracy_final"]
    assert (len(model.history_["train_loss"]), table.index.tolist()) == (3, [2])
    model.train(max_epochs=1, enable_progress_bar=False, validation_size=0)
    assert not [name for name in model.history_ if name.endswith("_final")]


def test_without_an_epoch_they_stand_at_the_first(trained):
    model = trained(max_epochs=0)
    assert model.history_["sex_accuracy_final"].index.tolist() == [0]


def test_a_phenotype_called_gene():
    found = with_final_scores({}, {"gene": {"accuracy": 0.5}})
    assert list(found) == ["phenotype_gene_accuracy_final"]


def test_without_a_history():
    assert without_final_scores(None) is None
    assert with_final_scores(None, {"sex": {"accuracy": 0.5}}) is None
    assert final_sentences(None, ["sex"]) == []


def test_a_sentence_for_each_phenotype():
    curves = {f"a_{score}_validation": pd.DataFrame({"x": [0.1, 0.25]}) for score in SCORES}
    scores = {"a": {"accuracy": 0.75, "macro_f1": 0.5}, "b": {"accuracy": 1.0, "macro_f1": 1.0}}
    scores["c"] = {"accuracy": np.nan, "macro_f1": np.nan}
    assert final_sentences(with_final_scores(curves, scores), ["a", "b", "c", "d"]) == [
        "a: accuracy 0.750 and macro-F1 0.500 on the held-out cells (the transformer alone, without the linear path: 0.250 "
        "and 0.250).",
        "b: accuracy 1.000 and macro-F1 1.000 on the held-out cells.",
        "c: not scored, because no held-out cell has a known category.",
    ]
