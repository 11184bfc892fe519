import pytest

from polygene_scverse.data.feed._masking import MaskingRates
from polygene_scverse.data.feed._rates import ORIGINAL_RATES, resolve_rates


@pytest.mark.parametrize(
    ("masking", "expected"),
    [
        (None, MaskingRates()),
        ({}, MaskingRates()),
        ({"expressed": 0.3}, MaskingRates(expressed=0.3)),
        (MaskingRates(hide_all=1.0), MaskingRates(hide_all=1.0)),
        ("original", ORIGINAL_RATES),
    ],
    ids=["none", "empty", "values", "rates", "original"],
)
def test_what_may_be_passed(masking, expected):
    assert resolve_rates(masking) == expected


def test_the_original_hides_every_gene_at_one_rate_and_drops_none():
    assert (ORIGINAL_RATES.expressed, ORIGINAL_RATES.not_expressed) == (0.15, 0.15)
    assert (ORIGINAL_RATES.gene_dropout, ORIGINAL_RATES.hide_all, ORIGINAL_RATES.hide_each) == (0, 0, 0.5)


@pytest.mark.parametrize(
    ("masking", "match"),
    [
        ("theirs", r"`masking`: found 'theirs', but it must be one of \['original'\]"),
        ({"genes": 0.1}, "`masking`: found 'genes', but it must be one of .*'expressed'"),
        ({"expressed": 2}, "`expressed`: found 2"),
    ],
    ids=["name", "key", "value"],
)
def test_what_may_not(masking, match):
    with pytest.raises(ValueError, match=match):
        resolve_rates(masking)
