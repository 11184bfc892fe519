"""Temperatures and their figures: by the fit of a temperature and the metrics alone."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax

from polygene_scverse.fit._calibration import MIN_CELLS, Calibration, fit_calibration
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


def test_words_of_one_group():
    assert DONOR.words == (
        "temperature 1.50, fitted on 70 held-out cells of 1 whole group of 'donor'; expected calibration error 0.100 "
        "before, 0.050 after; one group says little about others"
    )


def test_words_of_several_groups_and_of_none():
    assert replace(DONOR, n_groups=2).words.endswith(
        "of 2 whole groups of 'donor'; expected calibration error 0.100 before, 0.050 after"
    )
    alone = replace(DONOR, group_key="", n_groups=0, cells="given").words
    assert alone.startswith("temperature 1.50, fitted on 70 given cells; expected calibration error 0.100 before")
    assert alone.endswith("cells of the same groups (donors) may be in training: for new ones errors may be larger")


def test_words_where_nothing_was_fitted():
    words = replace(DONOR, fitted=False, n_cells=7, temperature=1.0).words
    assert words.startswith(f"temperature 1, not fitted: 7 held-out cells have a known category, but {MIN_CELLS} are")


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
