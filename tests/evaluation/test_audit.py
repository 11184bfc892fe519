import numpy as np
import pandas as pd
import pytest

from polygene_scverse.evaluation._audit import (
    CELLS_ONLY,
    COLUMNS,
    Evidence,
    category_offset,
    check_samples,
    constant_columns,
    describe_audit,
    judge_samples,
    model_evidence,
    out_of_fold_evidence,
    sample_table,
)
from polygene_scverse.evaluation._folds import Labels, Training, make_folds, train_fold


def judge(n_wrong, lean=0.0, n=9, other_cells=False):
    """`n` samples of four cells; the likelihood speaks against the first ones, and leans to the second category."""
    codes, samples = np.repeat(np.arange(n) % 2, 4), np.repeat(np.arange(n), 4)
    likelihood = np.stack([codes == 0, codes == 1], axis=1) * 2.0
    wrong = samples < n_wrong
    likelihood[wrong] = likelihood[wrong, ::-1]
    likelihood[:, 1] += lean
    names = np.char.add("s", samples.astype(str))
    return pd.DataFrame(judge_samples("sex", Labels(["f", "m"], codes), likelihood, samples, names, other_cells))


@pytest.mark.parametrize(("n_wrong", "reliable"), [(0, True), (3, True), (4, False)], ids=["none", "some", "many"])
def test_many_flags_are_not_reliable(n_wrong, reliable):
    table = judge(n_wrong)
    assert table["flagged"].tolist() == [True] * n_wrong + [False] * (9 - n_wrong)
    assert (table["score"] < 0).tolist() == table["flagged"].tolist()
    assert table["reliable"].tolist() == [reliable] * 9
    sentences = describe_audit(table)
    if not reliable:
        (line,) = sentences
        assert line.startswith(
            "sex: 4 of 9 samples are flagged, too many to be reliable. Either the labels of many samples"
        )
        assert "or the expression does not predict the phenotype in new samples. To find out, pass model=" in line
        assert line.endswith("Most contradicted: s0, recorded as 'f', suggested 'm' (100% of 4 cells).")
    elif n_wrong:
        assert (
            sentences[0]
            == "sex: s0 is recorded as 'f', but its expression suggests 'm' (100% of 4 cells, score -2.00)."
        )
        assert len(sentences) == 3
    else:
        assert sentences == ["sex: the expression of all 9 samples agrees with the recorded phenotype."]


@pytest.mark.parametrize(("n", "n_wrong"), [(2, 2), (4, 4), (9, 6)], ids=str)
def test_a_model_from_elsewhere_can_contradict_most_samples(n, n_wrong):
    table = judge(n_wrong, n=n, other_cells=True)
    assert table["flagged"].sum() == n_wrong
    assert table["reliable"].all()
    many, *lines = describe_audit(table, other_cells=True)
    assert many == (
        f"sex: {n_wrong} of {n} samples are flagged, {n_wrong} of them with at least 90% of their cells, in more than one "
        "direction. If the model is accurate on other data (pgs.tl.evaluate(other_data, model=model)), their labels are "
        "swapped or named differently."
    )
    assert len(lines) == n_wrong
    assert not judge(n_wrong, n=n)["reliable"].any()


@pytest.mark.parametrize(("n", "n_wrong"), [(5, 2), (9, 4)], ids=str)
def test_a_model_that_contradicts_about_half_may_be_guessing(n, n_wrong):
    table = judge(n_wrong, n=n, other_cells=True)
    assert not table["reliable"].any()
    (line,) = describe_audit(table, other_cells=True)
    assert (
        f"{n_wrong} of them with at least 90% of their cells, too many to be reliable. Either the labels of many"
        in line
    )
    assert "If the model is accurate on other data" in line


def test_a_model_that_says_the_same_of_all_samples_is_not_reliable():
    table = judge(1, n=2, other_cells=True)
    assert table["suggested"].tolist() == ["m", "m"]
    assert table["flagged"].tolist() == [True, False]
    assert not table["reliable"].any()
    (line,) = describe_audit(table, other_cells=True)
    assert "too many to be reliable" in line
    assert "If the model is accurate on other data" in line


@pytest.mark.parametrize("lean", [-3.0, 3.0], ids=["first", "second"])
def test_a_model_that_leans_to_one_category_is_righted(lean):
    """By their likelihood alone, all samples of the other category would be flagged."""
    expected, table = judge(1), judge(1, lean)
    assert table["flagged"].tolist() == [True] + [False] * 8
    np.testing.assert_allclose(table["score"], expected["score"])
    np.testing.assert_allclose(table["share"], expected["share"])


def test_the_middle_between_samples():
    ratios, recorded = np.array([9.0, 1.0, 2.0, 3.0, -4.0, -6.0]), np.array([0, 0, 0, 0, 1, 1])
    assert category_offset(ratios, recorded, 0, 1) == (2 - 5) / 2  # the sample's own 9 has no part in it
    assert category_offset(-ratios, recorded, 0, 1) == 0  # not told apart
    assert category_offset(ratios, recorded, 0, 2) == 0  # nobody is recorded so
    assert category_offset(ratios[[0, 4, 5]], recorded[[0, 4, 5]], 0, 1) == 0  # the only one of its kind


def test_sentences_without_samples():
    empty = sample_table({}, {}, pd.DataFrame(), None)
    assert list(empty.columns) == list(COLUMNS)
    assert describe_audit(empty) == []


def test_columns_of_samples_are_found():
    """Those within which a phenotype is constant, with more groups than it has categories; not names of cells."""
    sample = np.repeat(["s1", "s2", "s3"], 20)
    obs = pd.DataFrame({"sample": sample, "sex": np.repeat(["f", "m", "f"], 20), "type": ["B", "T"] * 30})
    obs["same"], obs["cell"] = obs["sex"] + "_", [f"c{i}" for i in range(60)]
    labels = {name: Labels.from_column(obs[name]) for name in ("sex", "type")}
    assert constant_columns(labels, obs) == {"sex": ["sample"]}
    assert check_samples(labels, obs, "sample") == ""
    assert check_samples(labels, obs[["sex", "type"]], None) == CELLS_ONLY
    one = obs.assign(sample="s0")
    with pytest.raises(ValueError, match="`sample_key`: all cells have the same 'sample'"):
        check_samples(labels, one, "sample")


def test_samples_are_judged_by_what_is_constant_within_them():
    obs = pd.DataFrame({"sample": np.repeat(["s1", "s2", "s3"], 2)})
    likelihood = np.array([[2.0, 0], [2, 0], [0, 1], [0, 1], [0, 3], [0, 3]])
    labels = {"sex": Labels(["f", "m"], np.repeat([0, 1, 0], 2)), "type": Labels(["B", "T"], np.arange(6) % 2)}
    evidence = dict.fromkeys(labels, Evidence(likelihood, likelihood))
    table = sample_table(labels, evidence, obs, "sample")
    assert set(table["phenotype"]) == {"sex"}
    assert table["score"].is_monotonic_increasing
    assert table["sample"].iloc[0] == "s3"
    assert table.iloc[0][["recorded", "suggested"]].tolist() == ["f", "m"]


def test_evidence_is_by_models_that_have_not_seen_the_group(cells, small):
    labels, training = {"sex": Labels.from_column(cells.obs["sex"])}, Training("donor", 2, small)
    found = out_of_fold_evidence(cells, labels, 2, training)["sex"]
    for train, test in make_folds(cells.obs, "donor", 2, labels, 2):
        model, _ = train_fold(cells, train, ["sex"], training)
        expected = model_evidence(model, cells[test].copy(), labels)["sex"]
        np.testing.assert_array_equal(found.probabilities[test], expected.probabilities)
        np.testing.assert_array_equal(found.log_likelihoods[test], expected.log_likelihoods)


def test_likelihoods_are_probabilities_over_shares_of_the_training_cells(trained):
    cells, model = trained
    label = Labels(["mixed", *model.categories["sex"]], np.zeros(300, dtype=int))  # one more than the model has
    found = model_evidence(model, cells, {"sex": label})["sex"]
    counts = np.maximum(np.bincount(model.codes(model.train_indices)["sex"] + 1, minlength=3)[1:], 1)
    expected = np.log(found.probabilities[:, 1:]) - np.log(counts / counts.sum())
    np.testing.assert_allclose(found.log_likelihoods[:, 1:], expected, rtol=1e-4, atol=1e-5)
    assert (found.probabilities[:, 0] == 0).all()
