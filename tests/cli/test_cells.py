import anndata as ad
import numpy as np
import pytest

from polygene_scverse.cli._cells import check_folder, find_files, plan_outputs, read_cells, split_list, write_cells
from polygene_scverse.cli._errors import UserError
from polygene_scverse.datasets import simulate

pytestmark = pytest.mark.filterwarnings("ignore:Writing zarr v2:UserWarning")


@pytest.fixture
def cells(tmp_path):
    """A file of cells with everything in it, and the cells."""
    adata = simulate(20, 20)
    adata.layers["counts"] = adata.X.copy()
    adata.raw = adata.copy()
    adata.obsp["mine"] = adata.X @ adata.X.T
    adata.write_h5ad(tmp_path / "in.h5ad")
    return tmp_path / "in.h5ad", adata


def test_split_list():
    assert split_list(["sex, tissue", "age", ""]) == ["sex", "tissue", "age"]
    assert split_list(None) is None


def test_files_by_pattern(shards):
    expected = [shards / f"s_{i}.h5ad" for i in range(3)]
    assert find_files([f"{shards}/s_{{0..2}}.h5ad"]) == expected
    assert find_files([f"file://{shards}/*.h5ad"], None) == expected
    assert find_files([str(expected[2])], [str(expected[0])]) == [expected[2], expected[0]]


@pytest.mark.parametrize(
    ("patterns", "error", "match"),
    [
        ([], UserError, "DATA: no files were passed. Pass h5ad files"),
        (["gs://bucket/a.h5ad"], UserError, "gs://bucket/a.h5ad is a remote address"),
        (["nix_{0..1}.h5ad"], FileNotFoundError, "no file matches 'nix_0.h5ad'"),
    ],
    ids=["none", "remote", "missing"],
)
def test_files_that_are_not(patterns, error, match):
    with pytest.raises(error, match=match):
        find_files(patterns)


@pytest.mark.parametrize("backed", [False, True], ids=["memory", "disk"])
def test_reading(cells, backed):
    path, adata = cells
    found = read_cells(path, backed=backed)
    assert found.isbacked is backed
    np.testing.assert_array_equal(found.X[:].toarray(), adata.X.toarray())


def test_reading_zarr(cells, tmp_path):
    cells[1].write_zarr(tmp_path / "in.zarr")
    np.testing.assert_array_equal(read_cells(tmp_path / "in.zarr").X.toarray(), cells[1].X.toarray())


def test_reading_something_else(tmp_path):
    (tmp_path / "a.h5ad").write_text("no")
    with pytest.raises(UserError, match=r"a.h5ad cannot be read as an h5ad file or a zarr store \(OSError"):
        read_cells(tmp_path / "a.h5ad")


def test_folder_to_write_to(tmp_path):
    check_folder(tmp_path / "a" / "b", overwrite=False)
    check_folder(tmp_path / "a" / "b", overwrite=False)  # it is empty
    (tmp_path / "a" / "file").write_text("x")
    with pytest.raises(UserError, match=r"--output: .*a is not empty\. Pass --overwrite"):
        check_folder(tmp_path / "a", overwrite=False)
    check_folder(tmp_path / "a", overwrite=True)
    with pytest.raises(UserError, match=r"file is a file\. Pass a folder"):
        check_folder(tmp_path / "a" / "file", overwrite=True)


def test_folder_that_cannot_be_written_to(tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(UserError, match=r"cannot be written to\. Pass another folder"):
        check_folder(tmp_path / "a", overwrite=False)


def test_outputs(tmp_path):
    files = [tmp_path / "a.h5ad", tmp_path / "b.zarr"]
    out = tmp_path / "new" / "out"
    assert plan_outputs(files[:1], out / "x.csv", None, overwrite=False) == [out / "x.csv"]
    assert plan_outputs(files, out, None, overwrite=False) == [out / "a.h5ad", out / "b.zarr"]
    assert plan_outputs(files, out, "csv", overwrite=False) == [out / "a.csv", out / "b.csv"]
    assert out.is_dir()
    dotted = tmp_path / "run.1"
    assert plan_outputs(files[:1], dotted, "csv", overwrite=False) == [dotted / "a.csv"]
    assert plan_outputs(files[:1], dotted, None, overwrite=False) == [dotted / "a.h5ad"]  # the folder exists now


OUTPUTS = {
    "one for two": (2, "x.h5ad", None, "is a file, but there are 2 inputs"),
    "format": (1, "x", "parquet", "--format: found 'parquet', but it must be one of h5ad, zarr, csv, tsv"),
    "two formats": (1, "x.h5ad", "csv", "--format: found 'csv', which differs from the suffix of"),
    "no format": (1, "x", None, "the format of .*a. is not known|the format of"),
    "compressed": (
        1,
        "x.csv.gz",
        None,
        r"the format of .*x\.csv\.gz is unknown. .* pass --format to write into a folder",
    ),
    "the input": (1, "a.h5ad", None, "a.h5ad is an input, which is never overwritten"),
    "it exists": (1, "there.csv", None, "there.csv already exists. Pass --overwrite"),
}


@pytest.mark.parametrize(("n_files", "output", "form", "match"), OUTPUTS.values(), ids=OUTPUTS)
def test_outputs_that_cannot_be(tmp_path, n_files, output, form, match):
    (tmp_path / "there.csv").touch()
    name = "a.h5ad" if output != "x" or form else "a.dat"
    files = [tmp_path / name, tmp_path / "b.h5ad"][:n_files]
    with pytest.raises(UserError, match=match):
        plan_outputs(files, tmp_path / output, form, overwrite=False)


def test_two_inputs_of_one_name(tmp_path):
    with pytest.raises(UserError, match="two inputs have the name a"):
        plan_outputs([tmp_path / "x" / "a.h5ad", tmp_path / "y" / "a.h5ad"], tmp_path / "out", None, overwrite=False)


def test_an_input_is_never_replaced(tmp_path):
    with pytest.raises(UserError, match="is an input, which is never overwritten"):
        plan_outputs([tmp_path / "a.h5ad"], tmp_path / "." / "a.h5ad", None, overwrite=True)


@pytest.mark.parametrize("backed", [False, True], ids=["memory", "disk"])
@pytest.mark.parametrize("suffix", ["h5ad", "zarr"])
def test_writing_keeps_everything_and_adds_results(cells, tmp_path, backed, suffix):
    path, before = cells
    adata, target = read_cells(path, backed=backed), tmp_path / f"out.{suffix}"
    adata.obs["new"] = np.arange(20)
    adata.obsm["X_new"] = np.ones((20, 2))
    adata.uns["polygene"] = {"names": ["a", "b"]}
    write_cells(adata, path, target)
    found = ad.read_h5ad(target) if suffix == "h5ad" else ad.read_zarr(target)
    for part in (found.X, found.layers["counts"], found.raw.X):
        np.testing.assert_array_equal(part.toarray(), before.X.toarray())
    assert list(found.obs["new"]) == list(range(20))
    assert found.obsm["X_new"].shape == (20, 2)
    assert list(found.uns["polygene"]["names"]) == ["a", "b"]
    np.testing.assert_array_equal(found.obsp["mine"].toarray(), before.obsp["mine"].toarray())
    assert "new" not in ad.read_h5ad(path).obs
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.h5ad", f"out.{suffix}"]


def test_from_zarr_to_h5ad_and_over_a_file_that_is_there(cells, tmp_path):
    _, adata = cells
    adata.write_zarr(tmp_path / "in.zarr")
    (tmp_path / "out.h5ad").write_text("old")
    write_cells(read_cells(tmp_path / "in.zarr"), tmp_path / "in.zarr", tmp_path / "out.h5ad")
    assert ad.read_h5ad(tmp_path / "out.h5ad").shape == (20, 20)


def test_nothing_half_written_is_left(cells, tmp_path, monkeypatch):
    def fails(*_, **__):
        raise OSError("disk full")

    monkeypatch.setattr("anndata.io.write_elem", fails)
    with pytest.raises(OSError, match="disk full"):
        write_cells(read_cells(cells[0]), cells[0], tmp_path / "out.h5ad")
    assert [p.name for p in tmp_path.iterdir()] == ["in.h5ad"]
