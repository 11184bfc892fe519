import numpy as np
import pandas as pd
import pytest

from polygene_scverse.data.read._split import check_split, resolve_split, split_cells


def groups_of(n, n_groups, missing=False):
    names = np.array([f"donor{i}" for i in range(n_groups)], dtype=object)[
        np.random.default_rng(0).integers(0, n_groups, n)
    ]
    if missing:
        names[::10] = None
    return pd.Series(names)


@pytest.mark.parametrize(("size", "n"), [(0.1, 10), (0.25, 25), (0.001, 1), (0.0, 0), (0.99, 99)])
def test_cells_are_on_one_side_each(size, n):
    train, validation = split_cells(100, validation_size=size)
    assert len(validation) == n
    np.testing.assert_array_equal(np.sort(np.concatenate([train, validation])), np.arange(100))
    assert np.all(np.diff(train) > 0)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("kind", ["object", "category", "missing"])
def test_groups_are_never_split(kind, seed):
    groups = groups_of(200, 9, missing=kind == "missing")
    groups = groups.astype("category") if kind == "category" else groups
    train, validation = split_cells(200, validation_size=0.3, groups=groups, seed=seed)
    check_split(train, validation, groups)
    sides = pd.DataFrame(
        {"group": groups.astype(object).fillna("none"), "held_out": np.isin(np.arange(200), validation)}
    )
    assert (sides.groupby("group")["held_out"].nunique() == 1).all()
    assert sides.groupby("group")["held_out"].first().sum() == 3
    np.testing.assert_array_equal(np.sort(np.concatenate([train, validation])), np.arange(200))


@pytest.mark.parametrize(("size", "n_held_out"), [(0.25, 1), (0.5, 2), (1.0, 3), (0.0, 0)])
def test_number_of_held_out_groups(size, n_held_out):
    """Of four groups those that the share makes, and at least one is trained on."""
    groups = pd.Series(list("abcd") * 5)
    _, validation = split_cells(20, validation_size=size, groups=groups)
    assert groups.iloc[validation].nunique() == n_held_out


@pytest.mark.parametrize(("n_groups", "size"), [(1, 0.5), (2, 0.1), (5, 0.1), (9, 0.1)], ids=str)
def test_of_few_groups_none_is_given_up(n_groups, size):
    """A group is more than the share that is asked for: cells are held out, and every group is in training."""
    groups = pd.Series(np.arange(180) % n_groups)
    train, validation = split_cells(180, validation_size=size, groups=groups)
    assert len(validation) == round(180 * size)
    assert groups.iloc[train].nunique() == n_groups


def test_a_split_that_would_empty_a_category_is_not_drawn():
    """Each group alone has a category: whichever was held out, its category would not be learned."""
    groups = pd.Series(np.arange(200) % 4)
    train, validation = split_cells(200, validation_size=0.25, groups=groups, labels={"kind": groups})
    assert groups.iloc[train].nunique() == 4
    assert len(validation) == 50


def test_the_seed_decides(simulated):
    a, b, c = (split_cells(300, seed=seed, groups=simulated.obs["donor"])[1] for seed in (0, 0, 3))
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, c)
    a, b, c = (split_cells(300, seed=seed)[1] for seed in (0, 0, 1))
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, c)


def test_a_draw_leaves_no_group_out_for_good():
    """Over seeds each of four donors is held out about as often."""
    groups = pd.Series(list("abcd"))
    held_out = [split_cells(4, validation_size=0.25, groups=groups, seed=seed)[1][0] for seed in range(400)]
    assert np.bincount(held_out).min() > 70


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"validation_size": 1.0}, r"`validation_size`: 1\.0 of 4 cells leaves none to train on"),
        ({"validation_size": 1.5}, r"`validation_size`: found 1\.5, but it must be a fraction"),
    ],
    ids=["nothing to train on", "no share"],
)
def test_impossible_splits(arguments, message):
    with pytest.raises(ValueError, match=message):
        split_cells(4, **arguments)


def test_a_good_split_passes():
    check_split(np.array([0, 1]), np.array([2]))
    check_split(np.array([0, 1]), np.array([2, 3]), pd.Series(["a", None, "b", None]))


@pytest.mark.parametrize(
    ("train", "validation", "message"),
    [
        ([], [1], "`split`: found 0 training and 1 validation cells, but both must be non-empty"),
        ([0, 1], [], "`split`: found 2 training and 0 validation cells, but both must be non-empty"),
        ([0, 1, 2], [1, 2], "`split`: 2 cells are on both sides"),
        ([0, 1], [2, 3], r"`split`: the groups \['b'\] are on both sides"),
    ],
    ids=["no training", "no validation", "shared cells", "shared groups"],
)
def test_bad_splits_are_refused(train, validation, message):
    with pytest.raises(ValueError, match=message):
        check_split(np.array(train, dtype=int), np.array(validation, dtype=int), pd.Series(["a", "b", "b", "c"]))


def test_a_split_that_is_passed_is_sorted_and_checked(simulated):
    train, validation = resolve_split(simulated, None, 0.1, ([5, 3], [9, 1]), 0)
    assert (train.tolist(), validation.tolist()) == ([3, 5], [1, 9])
    with pytest.raises(ValueError, match="`split`: 1 cells are on both sides"):
        resolve_split(simulated, None, 0.1, ([5, 3], [3]), 0)


def test_else_one_is_drawn_by_groups(simulated):
    found = resolve_split(simulated, "donor", 0.2, None, 3)
    expected = split_cells(simulated.n_obs, validation_size=0.2, groups=simulated.obs["donor"], seed=3)
    assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))
    with pytest.raises(KeyError, match="`group_key`"):
        resolve_split(simulated, "nobody", 0.2, None, 3)
