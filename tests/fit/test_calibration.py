"""Temperatures and their figures: by the fit of a temperature and the metrics alone."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax

from polygene_scverse.fit._calibration import GROUP_STRENGTH, MIN_CELLS, Calibration, fit_calibration
from polygene_scverse.fit._groups import GroupShift
from polygene_scverse.fit._temperature import fit_temperature
from polygene_scverse.metrics import ece, nll

GROUPS = pd.Series(np.arange(400) % 3, name="donor")
FIGURES = {"ece_before": 0.1, "ece_after": 0.05, "nll_before": 1.0, "nll_after": 0.9}
DONOR = Calibration(1.5, True, "held-out", n_cells=70, group_key="donor", n_groups=1, **FIGURES)


def to_probabilities(logits, temperature):
    return softmax(logits / temperature, axis=1).astype(np.float32)


def known_cells(n=400, k=4, temperature=3.0, seed=0):
    """Logits that are too large by a known factor, and codes drawn from what they should be."""
    rng = np.random.default_rng(seed)
    true = rng.normal(0, 2, (n, k))
    codes = (rng.random((n, 1)) > softmax(true, axis=1).cumsum(1)).sum(1).clip(max=k - 1)
    return (temperature * true).astype(np.float32), codes


def fitted(n=400, groups=None, cells="held-out"):
    logits, codes = known_cells(n)
    return fit_calibration(logits, codes, groups, cells, to_probabilities)


def test_note_of_one_new_group():
    assert DONOR.note == (
        "confidence and accuracy differ by 5.0 percentage points on average (ECE) in 70 held-out cells of one new group "
        "of 'donor' (10.0 before calibration). A single group is little evidence about others."
    )


def test_note_of_several_groups_and_of_none():
    assert replace(DONOR, n_groups=2).note.endswith(
        "(ECE) in 70 held-out cells of 2 new groups of 'donor' (10.0 before calibration)."
    )
    alone = replace(DONOR, group_key="", n_groups=0, cells="given").note
    assert alone.startswith(
        "confidence and accuracy differ by 5.0 percentage points on average (ECE) in 70 given cells (10.0 before"
    )
    assert ". The difference may be larger for new donors if cells of the same donors were used in training" in alone


@pytest.mark.parametrize(
    ("n", "limits"),
    [
        (1, "1.30, a default); a single group does not show by how much, so check them in another group"),
        (
            3,
            "1.30, roughly estimated by predicting the 3 training groups from each other)",
        ),
        (8, "1.30, estimated by predicting the 8 training groups from each other)"),
    ],
)
def test_note_where_every_group_is_in_training(n, limits):
    note = replace(DONOR, n_groups=0, n_training_groups=n, factor=1.3).note
    assert f"in 70 held-out cells of {f'{n} groups' if n > 1 else 'one group'} of 'donor' in training (" in note
    assert note.endswith(
        f". Because new groups differ, all probabilities are made less certain (by a factor of {limits}."
    )


def test_note_says_when_calibration_made_it_worse():
    note = replace(DONOR, ece_before=0.05, ece_after=0.1).note
    assert note.startswith("confidence and accuracy differ by 10.0 percentage points on average (ECE) in 70")
    assert "(5.0 before calibration, which did not help these cells)" in note
    few = replace(DONOR, ece_before=0.05, ece_after=0.1, n_groups=0, n_training_groups=3, factor=1.3).note
    assert "(5.0 before calibration). Because new groups differ" in few


def test_note_where_nothing_was_fitted():
    note = replace(DONOR, fitted=False, n_cells=7, temperature=1.0).note
    assert note.startswith("probabilities are not calibrated, because 7 held-out cells have a known category and")
    assert f"and {MIN_CELLS} are needed; call Polygene.calibrate" in note
    assert "for new groups" not in note
    flattened = ". Because new groups differ, all probabilities are made less certain (by a factor of 1.20"
    assert flattened in replace(DONOR, fitted=False, factor=1.2).note


def shift_of(n_groups, factor):
    nothing = np.zeros((0, 4), np.float32), np.zeros(0, int), np.zeros(0, int)
    return GroupShift("donor", n_groups, factor, np.nan, *nothing)


@pytest.mark.parametrize("n_groups", [1, 3, 50])
def test_cells_of_training_groups_decide_as_much_as_there_are_groups(n_groups):
    """And new groups cost what predicting groups from each other says."""
    logits, codes = known_cells()
    found = fit_calibration(logits, codes, None, "held-out", to_probabilities, shift_of(n_groups, 1.7))
    share = n_groups / (n_groups + GROUP_STRENGTH)
    assert found.temperature == pytest.approx(fit_temperature(logits, codes) ** share * 1.7)
    assert (found.n_groups, found.n_training_groups, found.group_key, found.factor) == (0, n_groups, "donor", 1.7)


def test_few_new_groups_share_the_decision_with_what_is_expected():
    """A weighted geometric mean of both temperatures."""
    logits, codes = known_cells()
    found = fit_calibration(logits, codes, GROUPS, "held-out", to_probabilities, shift_of(9, 1.7))
    logs, weights = np.log([fit_temperature(logits, codes), 1.7]), [3, GROUP_STRENGTH]
    assert np.log(found.temperature) == pytest.approx(np.average(logs, weights=weights))


@pytest.mark.parametrize("shift", [None, shift_of(1, 1.0), shift_of(4, 1.0)], ids=["unknown", "one", "four"])
def test_held_out_cells_never_sharpen_without_bound(shift):
    """One group of one category whose cells are all right: it is not the temperature .05 that would fit them best."""
    logits = np.tile(np.float32([0.2, 0.0, 0.0, 0.0]), (2000, 1))
    found = fit_calibration(logits, np.zeros(2000, int), None, "held-out", to_probabilities, shift)
    least = 0.5 if shift is None else 0.5 ** (shift.n_groups / (shift.n_groups + GROUP_STRENGTH))
    assert fit_temperature(logits, np.zeros(2000, int)) < 0.2 < found.temperature == pytest.approx(least)


def test_the_temperature_and_its_errors():
    logits, codes = known_cells()
    found = fitted(groups=GROUPS, cells="given")
    assert found.temperature == fit_temperature(logits, codes) == pytest.approx(3.0, rel=0.2)
    for errors, of in (((found.ece_before, found.ece_after), ece), ((found.nll_before, found.nll_after), nll)):
        assert errors == tuple(of(codes, to_probabilities(logits, t)) for t in (1.0, found.temperature))
        assert errors[1] < errors[0]
    assert (found.fitted, found.cells, found.n_cells) == (True, "given", 400)
    assert (found.group_key, found.n_groups) == ("donor", 3)


def test_without_groups():
    assert (fitted().group_key, fitted().n_groups) == ("", 0)


@pytest.mark.parametrize(("n", "enough"), [(0, False), (MIN_CELLS - 1, False), (MIN_CELLS, True)], ids=str)
def test_few_cells_leave_the_temperature(n, enough):
    found = fitted(n)
    assert found.fitted is enough
    assert (found.temperature == 1.0) is not enough
    if not enough:
        np.testing.assert_equal((found.ece_after, found.nll_after), (found.ece_before, found.nll_before))
