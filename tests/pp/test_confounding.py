import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy.stats import entropy
from sklearn.metrics import mutual_info_score

from polygene_scverse import pp
from polygene_scverse.pp._confounding import theils_u


@pytest.fixture
def adata():
    """Six donors of ten cells: sex by donor, cell types within, of which one lives in donor 5; some values missing."""
    rng = np.random.default_rng(0)
    donor = np.repeat(np.arange(6), 10)
    cell_type = np.array(["B", "T", "NK"], dtype=object)[rng.integers(0, 3, 60)]
    cell_type[50:53] = "mast"
    obs = pd.DataFrame(
        {
            "donor": [f"d{i}" for i in donor],
            "sex": np.where(donor < 4, "f", "m"),
            "cell_type": cell_type,
            "disease": np.where(donor % 2, "flu", "healthy"),
        },
        index=[f"cell{i}" for i in range(60)],
    )
    obs.loc["cell7", "sex"] = "unknown"
    obs.loc["cell8", "cell_type"] = None
    return AnnData(np.ones((60, 2)), obs=obs)


@pytest.mark.parametrize("name", ["sex", "cell_type", "disease"])
def test_theils_u_is_mutual_information_over_entropy(adata, name):
    row = pp.confounding(adata, group_key="donor", phenotypes=name).loc[name]
    known = adata.obs[name].notna() & (adata.obs[name] != "unknown")
    labels, groups = adata.obs.loc[known, name], adata.obs.loc[known, "donor"]
    expected = mutual_info_score(labels, groups) / entropy(labels.value_counts())
    assert row["theils_u"] == pytest.approx(expected)
    assert row["n_cells"] == known.sum()


def test_columns(adata):
    table = pp.confounding(adata, group_key="donor", phenotypes=["sex", "cell_type"])
    assert list(table.index) == ["sex", "cell_type"]
    assert table["constant"].tolist() == [True, False]
    assert table["n_groups"].tolist() == [6, 6]
    assert table["n_categories"].tolist() == [2, 4]
    assert table["fewest_groups"].tolist() == [2, 1]
    assert table["in_one_group"].tolist() == ["", "mast"]
    assert table.loc["sex", "theils_u"] == pytest.approx(1)
    assert 0 < table.loc["cell_type", "theils_u"] < 0.5


def test_note(adata):
    note = pp.confounding(adata, group_key="donor")["note"]
    assert note["sex"] == (
        "constant within each donor, so there are 6 independent observations, not 59; one category has only 2 of them, "
        "too few to distinguish its effect from that of the donor"
    )
    assert note["disease"] == "constant within each donor, so there are 6 independent observations, not 60"
    assert note["cell_type"] == "['mast'] occur in a single donor only"


def test_nothing_to_say(adata):
    mixed = adata[adata.obs["cell_type"].isin(["B", "T", "NK"])]
    assert pp.confounding(mixed, group_key="donor", phenotypes="cell_type")["note"].item() == ""


def test_one_group(adata):
    row = pp.confounding(adata[:10], group_key="donor", phenotypes="cell_type").iloc[0]
    assert row["theils_u"] == 0
    assert not row["constant"]
    assert row["note"] == "all cells come from a single donor, so accuracy for others cannot be estimated"


def test_cells_without_a_group_are_left_out(adata):
    adata.obs.loc[adata.obs["donor"] == "d5", "donor"] = None
    row = pp.confounding(adata, group_key="donor", phenotypes="disease").iloc[0]
    assert (row["n_cells"], row["n_groups"]) == (50, 5)


def test_theils_u_of_tables():
    assert theils_u(np.array([[2.0, 0], [0, 3]])) == pytest.approx(1)
    assert theils_u(np.array([[2.0, 4], [1, 2]])) == pytest.approx(0)
    assert np.isnan(theils_u(np.array([[2.0, 4]])))


def test_nothing_is_written(adata):
    before = adata.copy()
    pp.confounding(adata, group_key="donor")
    assert adata.obs.equals(before.obs)
    assert not adata.uns


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"group_key": "batch"}, r"`group_key`: \['batch'\]"),
        ({"group_key": "donor", "phenotypes": "age"}, r"\['age'\]"),
    ],
    ids=["group", "phenotype"],
)
def test_unknown_columns(adata, arguments, match):
    with pytest.raises(KeyError, match=match):
        pp.confounding(adata, **arguments)
