"""`polygene check` prints what the verb returns."""

import anndata as ad

import polygene_scverse as pgs


def test_ten_lines(polygene, shards, model_folder):
    path = shards / "s_1.h5ad"
    lines = polygene("check", path, "--model", model_folder).out.strip().splitlines()
    expected = pgs.tl.check(ad.read_h5ad(path), model=model_folder)
    assert len(lines) == len(expected) == 10
    assert [line.partition(":")[0] for line in lines] == list(expected.index)
    assert [line.partition(":")[2].strip() for line in lines] == list(expected)


def test_several_files_are_named(polygene, shards, model_folder):
    said = polygene("check", f"{shards}/s_{{0..1}}.h5ad", "--model", model_folder).out
    assert said.splitlines()[0] == f"{shards}/s_0.h5ad:"
    assert len(said.strip().splitlines()) == 22
