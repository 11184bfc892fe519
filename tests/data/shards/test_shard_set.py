import numpy as np
import pandas as pd
import pytest

from polygene_scverse.data.read._expression import Expression
from polygene_scverse.data.read._scale import COUNTS
from polygene_scverse.data.read._tokens import Tokenizer
from polygene_scverse.data.shards._shard_set import ShardSet

EDGES = np.array([0.0, 1e-9, 5.0, 6.0])


def without(genes):
    """Leaves some genes out of the second file, and turns the genes of the third round."""

    def change(i, part):
        return part[:, ~part.var_names.isin(genes)].copy() if i == 1 else part[:, ::-1].copy() if i == 2 else part

    return change


def test_cells_are_numbered_through_all_files(simulated, write_files):
    shards = ShardSet.open(write_files(simulated), ["sex", "cell_type"], "donor")
    assert (shards.n_obs, shards.n_vars) == (300, 60)
    np.testing.assert_array_equal(shards.starts, [0, 120, 170, 300])
    assert list(shards.obs) == ["sex", "cell_type", "donor"]
    for key in shards.obs:
        np.testing.assert_array_equal(shards.obs[key].astype(str), simulated.obs[key].astype(str))
    assert shards.obs.memory_usage(index=False).sum() < 3 * 300 + 3000  # a byte each


def test_rows_by_file(simulated, write_files):
    shards = ShardSet.open(write_files(simulated), "sex")
    found = {k: list(rows) for k, rows in shards.by_file(np.array([0, 119, 170, 171, 299]))}
    assert found == {0: [0, 119], 2: [0, 1, 129]}


@pytest.mark.parametrize("suffix", ["h5ad", "zarr"])
def test_tokens_are_those_in_memory(suffix, simulated, write_files):
    """Whatever the order of genes in a file."""
    shards = ShardSet.open(write_files(simulated, suffix=suffix, change=without([])), "sex")
    genes = list(simulated.var_names[5:40])
    tokenizers = [Tokenizer.match(genes, file.var_names, COUNTS, EDGES) for file in shards.files]
    rows = np.array([3, 4, 118, 125, 200, 201, 210, 299])
    found, expected = shards.read(rows, tokenizers), tokenizers[0].read(Expression.of(simulated), rows)
    for name in ("indptr", "genes", "bins", "values"):
        a, b = getattr(found, name), getattr(expected, name)
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=1e-6, err_msg=name)


def test_genes_are_those_of_all_files(simulated, write_files):
    def change(i, part):
        return part[:, 10:].copy() if i == 0 else part[:, :30].copy()

    shards = ShardSet.open(write_files(simulated, change=change), "sex")
    assert list(shards.var_names) == [*simulated.var_names[10:], *simulated.var_names[:10]]
    assert shards.files[1].var_names is shards.files[2].var_names  # kept once


def test_usual_phenotypes_that_every_file_has(simulated, write_files):
    simulated.obs["tissue"] = pd.Categorical(["blood", "lung"] * 150)

    def change(i, part):
        del part.obs[["donor", "tissue"][i % 2]]
        return part

    paths = write_files(simulated, change=change)
    with pytest.warns(UserWarning, match=r"\['tissue'\] are not columns of obs in every file"):
        shards = ShardSet.open(paths)
    assert list(shards.obs) == ["sex", "cell_type"]


def test_another_name_of_a_phenotype_is_not_missed(simulated, write_files):
    def change(i, part):
        if i:
            part.obs["celltype"] = part.obs["cell_type"]
        return part

    assert list(ShardSet.open(write_files(simulated, change=change)).obs) == ["sex", "cell_type"]


def drop(column):
    def change(i, part):
        if i == 1:
            del part.obs[column]
        return part

    return change


def renamed(i, part):
    part.var_names = [f"ENSG{j}" for j in range(60)] if i == 2 else part.var_names
    return part


def numbered(i, part):
    if i == 1:
        part.obs["sex"] = np.arange(part.n_obs) % 2
    return part


def renamed_columns(i, part):
    part.obs = part.obs.rename(columns={"sex": "label_a", "cell_type": "label_b"})
    return part


def test_no_usual_phenotype(simulated, write_files):
    paths = write_files(simulated, change=renamed_columns)
    with pytest.raises(
        ValueError, match=r"found None, but no column.*Columns that look like phenotypes: \['label_b', 'label_a'"
    ):
        ShardSet.open(paths)


def test_a_file_with_one_category_is_welcome(simulated, write_files):
    """Files are often one tissue each."""
    simulated.obs["tissue"] = np.repeat(["blood", "lung", "liver"], [120, 50, 130])
    del simulated.obs["sex"], simulated.obs["cell_type"]
    assert set(ShardSet.open(write_files(simulated)).obs["tissue"]) == {"blood", "lung", "liver"}


def test_names_are_kept_once(simulated, write_files):
    simulated.var["highly_variable_rank"] = np.arange(60.0)
    files = ShardSet.open(write_files(simulated), "sex").files
    assert all(file.var_names is files[0].var_names and file.ranks.index is files[0].var_names for file in files)


ERRORS = {
    "phenotype": (
        drop("sex"),
        KeyError,
        r"`phenotypes`: 'sex' is not a column of obs in .*shard_1.*cell_type",
    ),
    "group": (drop("donor"), KeyError, r"`group_key`: 'donor' is not a column of obs in .*shard_1"),
    "genes": (renamed, ValueError, r"shard_2\.h5ad has no gene in common.*'ENSG0'.*'gene0'.*same kind of identifier"),
    "labels": (numbered, ValueError, r"obs\['sex'\] holds text in shard_0\.h5ad, but numbers in shard_1\.h5ad"),
}


@pytest.mark.parametrize(("change", "error", "match"), ERRORS.values(), ids=ERRORS)
def test_files_that_do_not_fit_together(change, error, match, simulated, write_files):
    paths = write_files(simulated, change=change)
    with pytest.raises(error, match=match):
        ShardSet.open(paths, "sex", "donor")


def test_one_file_is_enough(simulated, write_files):
    assert ShardSet.open(write_files(simulated)[1], "sex").n_obs == 50
