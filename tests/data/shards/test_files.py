import numpy as np
import pytest
import scipy.sparse as sp

from polygene_scverse.data.shards._files import expand_paths, open_shard


@pytest.fixture
def names(tmp_path):
    """Empty files, and a function that gives the names of paths."""
    for name in ("s_0.h5ad", "s_1.h5ad", "s_2.h5ad", "s_10.h5ad", "s_08.h5ad", "blood.zarr", "lung.zarr", "[x].h5ad"):
        (tmp_path / name).touch()
    return lambda pattern: [path.name for path in expand_paths(pattern)]


PATTERNS = {
    "one file": ("s_1.h5ad", ["s_1.h5ad"]),
    "range": ("s_{0..2}.h5ad", ["s_0.h5ad", "s_1.h5ad", "s_2.h5ad"]),
    "range backwards": ("s_{2..1}.h5ad", ["s_2.h5ad", "s_1.h5ad"]),
    "range with zeros": ("s_{08..08}.h5ad", ["s_08.h5ad"]),
    "names": ("{lung,blood}.zarr", ["lung.zarr", "blood.zarr"]),
    "two braces": ("{s,}_{0..1}.h5ad", None),
    "natural order": ("s_?*.h5ad", ["s_0.h5ad", "s_1.h5ad", "s_2.h5ad", "s_08.h5ad", "s_10.h5ad"]),
    "a name with brackets": ("[x].h5ad", ["[x].h5ad"]),
    "braces and stars": ("{blood,s_1*}.*", ["blood.zarr", "s_1.h5ad", "s_10.h5ad"]),
}


@pytest.mark.parametrize(("pattern", "expected"), PATTERNS.values(), ids=PATTERNS)
def test_patterns(pattern, expected, names, tmp_path):
    if expected is None:
        with pytest.raises(FileNotFoundError, match=r"no file matches '.*_0\.h5ad', of the pattern '.*\{s,\}"):
            names(str(tmp_path / pattern))
    else:
        assert names(str(tmp_path / pattern)) == expected


def test_a_list_keeps_its_order(names, tmp_path):
    assert names([tmp_path / "s_2.h5ad", str(tmp_path / "{blood,lung}.zarr")]) == [
        "s_2.h5ad",
        "blood.zarr",
        "lung.zarr",
    ]


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"`adata`: no file matches '.*cells\.h5ad'\. Check the path"):
        expand_paths([tmp_path / "cells.h5ad"])


@pytest.mark.parametrize("paths", [3, [3], None, {"a": 1}], ids=["number", "list", "None", "dict"])
def test_something_else_is_no_path(paths):
    with pytest.raises(
        TypeError, match=r"`adata`: found .*\. Pass AnnData, MuData, or the paths of h5ad or zarr files"
    ):
        expand_paths(paths)


def test_no_files():
    with pytest.raises(ValueError, match=r"`adata`: found an empty list of files"):
        expand_paths([])


def test_a_file_named_twice(names, tmp_path):
    with pytest.raises(ValueError, match=r"s_1\.h5ad'\] found more than once"):
        names([tmp_path / "s_1.h5ad", tmp_path / "s_{0..2}.h5ad"])
    (tmp_path / "folder").mkdir()
    (tmp_path / "link.h5ad").symlink_to(tmp_path / "s_1.h5ad")
    for other in ("folder/../s_1.h5ad", "link.h5ad"):
        with pytest.raises(ValueError, match="found more than once"):
            names([tmp_path / "s_1.h5ad", tmp_path / other])


def test_multimodal_files_are_refused(tmp_path):
    (tmp_path / "cells.h5mu").touch()
    with pytest.raises(ValueError, match=r"cells\.h5mu'\] hold MuData, but files of one modality are needed"):
        expand_paths(tmp_path / "*.h5mu")


STORED = {"csr": sp.csr_matrix, "dense": lambda x: x.toarray(), "csr_array": sp.csr_array}


@pytest.mark.parametrize("suffix", ["h5ad", "zarr"])
@pytest.mark.parametrize("stored", STORED)
def test_a_file_is_looked_at_and_read(stored, suffix, simulated, write_files):
    dense = simulated.X.toarray()
    simulated.X = STORED[stored](simulated.X)
    path = write_files(simulated, suffix=suffix)[2]
    file, obs = open_shard(path)
    assert (file.n_obs, list(file.var_names)) == (130, list(simulated.var_names))
    assert file.ranks is None
    assert list(obs["donor"]) == list(simulated.obs["donor"][170:])
    rows = np.array([0, 1, 2, 50, 128, 129])
    np.testing.assert_array_equal(sp.vstack(list(file.iterate(rows))).toarray(), dense[170:][rows])


@pytest.mark.parametrize(
    ("arguments", "factor"), [({"layer": "twice"}, 2), ({"use_raw": True}, 3)], ids=["layer", "raw"]
)
def test_other_places(arguments, factor, simulated, write_files):
    simulated.X *= 3
    simulated.raw = simulated.copy()
    simulated.layers["twice"] = simulated.X * (2 / 3)
    simulated.X /= 3
    file, _ = open_shard(write_files(simulated[:, 5:].copy())[0], **arguments)
    assert len(file.var_names) == (60 if "use_raw" in arguments else 55)
    (block,) = file.iterate(np.arange(120))
    expected = simulated.X.toarray()[:120, 0 if "use_raw" in arguments else 5 :]
    np.testing.assert_allclose(block.toarray(), factor * expected, rtol=1e-6)


def test_ranks_are_read(simulated, write_files):
    simulated.var["highly_variable_rank"] = np.arange(60)[::-1]
    file, _ = open_shard(write_files(simulated)[0])
    np.testing.assert_array_equal(file.ranks.to_numpy(), np.arange(60.0)[::-1])


def spoiled(path, how):
    if how == "text":
        path.write_text("cells")
    elif how == "cut":
        path.write_bytes(path.read_bytes()[:5000])
    else:
        path.unlink()
        path.mkdir()


@pytest.mark.parametrize("how", ["text", "cut", "empty folder"])
def test_an_unreadable_file_is_named(how, simulated, write_files):
    path = write_files(simulated)[1]
    spoiled(path, how)
    with pytest.raises(ValueError, match=r"`adata`: .*shard_1\.h5ad cannot be read as an h5ad file or a zarr store"):
        open_shard(path)


def test_a_matrix_by_column_is_refused(simulated, write_files):
    simulated.X = simulated.X.tocsc()
    with pytest.raises(ValueError, match=r"X of .*shard_0\.h5ad is stored by column \(csc\).*tocsr"):
        open_shard(write_files(simulated)[0])


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"layer": "counts"}, r"layers/counts is not in .*shard_0\.h5ad\. Pass another layer=, of \['other'\]"),
        ({"use_raw": True}, r"raw/X is not in .*shard_0\.h5ad"),
    ],
    ids=["layer", "raw"],
)
def test_a_place_that_is_not_there(arguments, match, simulated, write_files):
    simulated.layers["other"] = simulated.X.copy()
    with pytest.raises(KeyError, match=match):
        open_shard(write_files(simulated)[0], **arguments)


def test_genes_named_twice(simulated, write_files):
    simulated.var_names = ["gene0", "gene0", *simulated.var_names[2:]]
    with pytest.warns(UserWarning, match="names are not unique"):
        path = write_files(simulated)[0]
    with pytest.raises(ValueError, match=r"1 names occur more than once .*\(In .*shard_0\.h5ad"):
        open_shard(path)


def test_no_cells(simulated, write_files):
    with pytest.raises(ValueError, match=r"found 0 cells and 60 genes.*\(In .*shard_0\.h5ad"):
        open_shard(write_files(simulated, cuts=(0, 0, 300))[0])
