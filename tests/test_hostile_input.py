"""Inputs that real files have and that nobody expects: each verb works, or says in words what is wrong."""

import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from anndata import read_h5ad
from mudata import MuData

import polygene_scverse as pgs
from polygene_scverse.data.read import _source
from polygene_scverse.data.read._expression import Expression
from polygene_scverse.data.read._phenotypes import candidates
from polygene_scverse.data.read._ranking import genes_by_rank
from polygene_scverse.data.read._source import read_rows

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")


def cells(seed=0, **kwargs):
    return pgs.datasets.simulate(**({"n_obs": 200, "n_vars": 80, "seed": seed} | kwargs))


def train(adata, **kwargs):
    return pgs.tl.train(
        adata, **({"phenotypes": ["cell_type"], "max_epochs": 1, "n_genes": 50, "verbose": False} | kwargs)
    )


@pytest.fixture(scope="module")
def model():
    return train(cells())


def proba(model, adata):
    return model.predict_phenotype(adata)["cell_type"].to_numpy()


FEW = {"max_epochs": 1, "n_genes": 20}
VERBS = {
    "train": lambda a, m: train(a),
    "train, unnamed": lambda a, m: train(a, phenotypes=None),
    "predict": lambda a, m: pgs.tl.predict_phenotype(a, model=m),
    "given": lambda a, m: pgs.tl.predict_phenotype(a, model=m, given="cell_type"),
    "embed": lambda a, m: pgs.tl.embed(a, model=m),
    "novelty": lambda a, m: pgs.tl.novelty(a, model=m),
    "fill": lambda a, m: pgs.tl.fill_phenotype(a, model=m),
    "score": lambda a, m: pgs.tl.score_tokens(a, model=m),
    "genes": lambda a, m: pgs.tl.gene_interactions(a, model=m, groupby="cell_type"),
    "prepare": lambda a, m: pgs.pp.prepare(a, batch_key="donor"),
    "confounding": lambda a, m: pgs.pp.confounding(a, group_key="donor"),
    "evaluate": lambda a, m: pgs.tl.evaluate(
        a, phenotypes=["cell_type"], group_key="donor", baselines="majority", n_bootstrap=5, train_kwargs=FEW
    ),
    "audit": lambda a, m: pgs.tl.audit(
        a, phenotypes=["cell_type"], group_key="donor", n_folds=2, max_epochs=1, train_kwargs={"n_genes": 20}
    ),
}


def with_objects(adata):
    adata.obs["clones"] = [[1, 2]] * adata.n_obs
    adata.obs["notes"] = [{"a": 1}] * adata.n_obs
    adata.obs["array"] = [np.arange(2)] * adata.n_obs
    return adata


def doubled(adata):
    adata.obs["x"] = adata.obs["sex"].to_numpy()
    adata.obs = pd.concat([adata.obs, adata.obs[["x"]]], axis=1)
    return adata


@pytest.mark.parametrize("change", [with_objects, doubled])
@pytest.mark.parametrize("verb", VERBS)
def test_columns_that_are_not_asked_for_do_not_matter(verb, change, model):
    VERBS[verb](change(cells(seed=1)), model)


@pytest.mark.parametrize(
    ("argument", "call"),
    [
        ("phenotypes", lambda a, m, key: train(a, phenotypes=[key])),
        ("group_key", lambda a, m, key: train(a, group_key=key)),
        ("batch_key", lambda a, m, key: pgs.pp.prepare(a, batch_key=key)),
        ("group_key", lambda a, m, key: pgs.pp.confounding(a, group_key=key)),
        ("groupby", lambda a, m, key: pgs.tl.gene_interactions(a, model=m, groupby=key)),
        ("sample_key", lambda a, m, key: pgs.tl.audit(a, sample_key=key)),
    ],
)
def test_the_error_names_the_argument(argument, call, model):
    for key, words in (("clones", "holds values of the type list"), ("x", "has 2 columns called 'x'")):
        with pytest.raises(ValueError, match=f"`{argument}`: adata.obs.*{words}"):
            call(doubled(with_objects(cells())), model, key)
    with pytest.raises(KeyError, match=f"`{argument}`: .*Columns that (look like phenotypes|have labels): .*cell_type"):
        call(doubled(with_objects(cells())), model, "celltype")


def test_candidates_look_at_some_cells():
    obs = pd.DataFrame({f"s{i}": pd.Series([f"{j % 3}" for j in range(3000)], dtype=object) for i in range(5)})
    obs["lists"] = [[1]] * 3000
    assert candidates(obs) == [f"s{i}" for i in range(5)]
    assert candidates(obs.iloc[:0]) == []


# files


@pytest.fixture
def on_disk(tmp_path):
    def write(form):
        adata = cells(seed=1)
        adata.X = {"csr": sp.csr_matrix, "csc": sp.csc_matrix, "dense": lambda x: x.toarray()}[form](adata.X)
        adata.write_h5ad(tmp_path / f"{form}.h5ad")
        return read_h5ad(tmp_path / f"{form}.h5ad", backed="r")

    return write


@pytest.mark.parametrize("form", ["csr", "csc", "dense"])
def test_backed_in_each_form(form, on_disk, model, monkeypatch):
    monkeypatch.setattr(_source, "COLUMNS", 7)
    monkeypatch.setattr(_source, "BLOCK", 64)
    np.testing.assert_allclose(proba(model, on_disk(form)), proba(model, cells(seed=1)), atol=1e-6)
    np.testing.assert_allclose(proba(model, on_disk(form)[20:40]), proba(model, cells(seed=1)[20:40].copy()), atol=1e-6)


def test_a_file_by_column_is_read_twice_whatever_is_asked(on_disk, monkeypatch):
    adata, reads = on_disk("csc"), []
    kind = type(adata.X)
    real = kind.__getitem__
    monkeypatch.setattr(kind, "__getitem__", lambda self, at: reads.append(at) or real(self, at))
    expression = Expression.of(adata)
    for start in range(0, 200, 20):
        block = expression.rows(np.arange(start, start + 20))
        assert (block != cells(seed=1).X[start : start + 20]).nnz == 0
    assert len(reads) == 2


@pytest.mark.parametrize("verb", ["predict", "embed", "novelty", "fill", "score", "prepare", "evaluate", "audit"])
def test_slice_of_a_backed_file_is_refused_before_anything_is_computed(verb, on_disk, model, monkeypatch):
    monkeypatch.setattr(Expression, "of", lambda *args: pytest.fail("expression was read"))
    with pytest.raises(ValueError, match=r"`adata`: found a slice of a backed file.*to_memory\(\)"):
        VERBS[verb](on_disk("csr")[:50], model)


@pytest.mark.parametrize("verb", VERBS)
def test_backed(verb, on_disk, model):
    VERBS[verb](on_disk("csr"), model)


def test_a_file_without_x(tmp_path, model):
    adata = cells(seed=1)
    adata.layers["counts"], adata.X = adata.X, None
    adata.write_h5ad(tmp_path / "layer.h5ad")
    del adata.layers["counts"]
    adata.write_h5ad(tmp_path / "nothing.h5ad")
    of_layer = train(read_h5ad(tmp_path / "layer.h5ad", backed="r"), layer="counts")
    backed, full = (read_h5ad(tmp_path / "layer.h5ad", backed=mode) for mode in ("r", None))
    np.testing.assert_array_equal(proba(of_layer, backed), proba(of_layer, full))
    for name, layers in (("layer", r"\['counts'\]"), ("nothing", r"\[\]")):
        backed = read_h5ad(tmp_path / f"{name}.h5ad", backed="r")
        with pytest.raises(ValueError, match=rf"`adata`: the model uses adata\.X, .* The layers are {layers}"):
            proba(model, backed)
        with pytest.raises(ValueError, match=r"`adata`: adata\.X is empty"):
            train(backed)


class Lazy:
    """An array that is computed when asked to, as dask's."""

    def __init__(self, x):
        self.x, self.shape, self.read = x, x.shape, []

    def __getitem__(self, at):
        part = Lazy(self.x[at])
        part.read = self.read
        return part

    def compute(self):
        self.read.append(self.shape[0])
        return self.x


def test_lazy_arrays_are_computed_in_blocks():
    x = cells(n_obs=1000).X
    lazy = Lazy(x)
    rows = np.array([150, 3, 3, 4, 60])
    assert (read_rows(lazy, rows) != x[rows]).nnz == 0
    expression = Expression(lazy, cells().var_names, "adata.X")
    assert (sp.vstack(list(expression.blocks(np.arange(1000), 50))) != x).nnz == 0
    assert max(lazy.read) <= 50


def test_file_of_anndata_0_6(tmp_path):
    adata, path = cells(), tmp_path / "old.h5ad"
    adata.raw = adata.copy()
    labels = adata.obs["cell_type"].cat
    with h5py.File(path, "w") as file:
        for name in ("X", "raw.X"):
            group, x = file.create_group(name), sp.csr_matrix(adata.X)
            group.attrs["h5sparse_format"], group.attrs["h5sparse_shape"] = "csr", np.array(x.shape)
            for key in ("data", "indices", "indptr"):
                group[key] = getattr(x, key)
        obs = np.zeros(adata.n_obs, dtype=[("index", "S20"), ("cell_type", "i1")])
        obs["index"], obs["cell_type"] = adata.obs_names.to_numpy().astype("S20"), labels.codes
        var = np.zeros(adata.n_vars, dtype=[("index", "S20")])
        var["index"] = adata.var_names.to_numpy().astype("S20")
        file["obs"], file["var"], file["raw.var"] = obs, var, var
        file.create_group("uns")["cell_type_categories"] = np.array(list(labels.categories), dtype="S20")
    adata.write_h5ad(tmp_path / "new.h5ad")
    for use_raw in (False, True):
        old, new = (train(tmp_path / f"{name}.h5ad", use_raw=use_raw) for name in ("old", "new"))
        assert old.categories == new.categories
        assert old.genes == new.genes
        np.testing.assert_array_equal(proba(old, cells(seed=1)), proba(new, cells(seed=1)))


# matrices


@pytest.mark.parametrize("verb", ["train", "predict", "embed", "prepare", "evaluate", "audit"])
def test_nothing_expressed(verb, model):
    adata = cells()
    adata.X = sp.csr_matrix(adata.shape, dtype=np.float32)
    with pytest.raises(ValueError, match=r"`adata`: adata\.X has no value above 0"):
        VERBS[verb](adata, model)


def test_some_silent_cells(model):
    adata = cells(seed=1)
    x = adata.X.tolil()
    x[::2] = 0
    adata.X = x.tocsr()
    assert np.isfinite(proba(model, adata)).all()
    np.testing.assert_allclose(proba(model, adata)[1::2], proba(model, cells(seed=1))[1::2], atol=1e-6)


def test_duplicates_in_raw():
    adata = cells()
    names = adata.var_names.to_numpy().copy()
    names[1] = names[0]
    adata.var_names = names
    adata.raw = adata.copy()
    with pytest.raises(ValueError, match=r"more than once in adata\.raw\.var_names.*raw\.var_names_make_unique\(\)"):
        train(adata, use_raw=True)
    adata.var_names_make_unique()
    assert train(adata, use_raw=True, n_genes=80).layout.n_genes == 80
    other = cells()
    other.raw = adata.raw.to_adata()
    other = other[:, 5:].copy()
    with pytest.raises(ValueError, match=r"set adata\.raw = raw"):
        train(other, use_raw=True)
    raw = other.raw.to_adata()
    raw.var_names_make_unique()
    other.raw = raw
    train(other, use_raw=True)


# genes and batches


def test_equal_ranks_are_ordered_stably():
    rank = np.full(80, np.nan)
    rank[:40] = np.repeat(np.arange(20), 2)[::-1] + 0.5
    adata = cells()
    adata.var["highly_variable_rank"] = rank
    assert train(adata, n_genes=10).genes == [f"gene_{i}" for i in (38, 39, 36, 37, 34, 35, 32, 33, 30, 31)]
    assert genes_by_rank(pd.Series({"b": 0.0, "a": 0.0, "c": 1.0}), 2) == ["b", "a"]


@pytest.mark.parametrize("n", [1, 2, 3, 5])
@pytest.mark.parametrize("n_vars", [20, 80])
def test_small_batches(n, n_vars):
    adata = cells(n_vars=n_vars)
    batch = np.array(["a"] * 100 + ["b"] * 100, dtype=object)
    adata.obs["batch"] = batch
    batch[50 : 50 + n] = "c"
    small = cells(n_vars=n_vars)
    small.obs["batch"] = batch
    pgs.pp.prepare(small, batch_key="batch")
    assert small.var["highly_variable_rank"].notna().all()
    if n < 3:
        without = small[small.obs["batch"] != "c"].copy()
        pgs.pp.prepare(without, batch_key="batch")
        pd.testing.assert_series_equal(without.var["highly_variable_rank"], small.var["highly_variable_rank"])


def test_small_batches_are_said():
    adata = cells()
    adata.obs["batch"] = ["a"] * 100 + ["b"] * 99 + ["c"]
    with pytest.warns(UserWarning, match=r"`batch_key`: the batches \['c'\] have fewer than 3 cells"):
        pgs.pp.prepare(adata, batch_key="batch")


def test_a_batch_for_each_cell():
    adata, plain = cells(), cells()
    adata.obs["batch"] = [f"b{i}" for i in range(200)]
    pgs.pp.prepare(adata, batch_key="batch")
    pgs.pp.prepare(plain)
    pd.testing.assert_series_equal(adata.var["highly_variable_rank"], plain.var["highly_variable_rank"])


# after set-up


def test_column_deleted_after_set_up():
    adata = cells()
    pgs.model.Polygene.setup_anndata(adata, phenotype_keys=["cell_type", "sex"])
    model = pgs.model.Polygene(adata, n_genes=20)
    del adata.obs["cell_type"]
    with pytest.warns(UserWarning, match=r"`adata`: \['cell_type'\], which the model learns, are not columns"):
        model.train(max_epochs=1)
    del adata.obs["sex"]
    with pytest.raises(KeyError, match=r"`adata`: \['cell_type', 'sex'\].*Add the column"):
        model.train(max_epochs=1)


# arguments


def renamed(adata, name):
    """A copy whose cell types have a second name."""
    adata = adata.copy()
    adata.obs[name] = adata.obs["cell_type"]
    return adata


def given_lists(model):
    pgs.tl.generate({"cell_type": ["a", "b"]}, n_obs=2, model=model)


WRONG = {
    "phenotypes": [
        lambda a, m: pgs.tl.predict_phenotype(a, model=m, phenotypes=3),
        lambda a, m: pgs.tl.predict_phenotype(a, model=m, phenotypes={"cell_type": 1}),
        lambda a, m: pgs.tl.predict_phenotype(a, model=m, phenotypes=[]),
        lambda a, m: pgs.tl.fill_phenotype(a, model=m, phenotypes=[]),
        lambda a, m: train(a, phenotypes=3),
        lambda a, m: train(a, phenotypes={"cell_type": 1}),
        *(lambda a, m, name=name: train(renamed(a, name), phenotypes=[name]) for name in (1, 1.5, True, ("a", "b"))),
    ],
    "save_to": [lambda a, m, folder=folder: train(a, save_to=folder) for folder in ("", 3, __file__)],
    "layer": [lambda a, m: train(a, layer=["counts"]), lambda a, m: train(a, layer=3)],
    "gene_symbols": [
        lambda a, m: pgs.pp.sum_genes(a, gene_symbols=["symbol"]),
        lambda a, m: train(a, gene_symbols=["symbol"]),
    ],
    "ordered": [lambda a, m: train(a, ordered=3)],
    "baselines": [lambda a, m: pgs.tl.evaluate(a, phenotypes="cell_type", baselines=3)],
    "n_steps": [lambda a, m, n=n: pgs.tl.estimate_cost(a, phenotypes="cell_type", n_steps=n) for n in (0, "a", 1.5)],
    "n_folds": [lambda a, m, n=n: pgs.tl.audit(a, phenotypes="cell_type", n_folds=n) for n in (1, "a", 2.5)],
    "n_bins": [lambda a, m, n=n: train(a, model_kwargs={"n_bins": n}) for n in (1, "4", 4.5)],
    "key_added": [
        *(lambda a, m, key=key: pgs.tl.embed(a, model=m, key_added=key) for key in ("", None, 3)),
        *(lambda a, m, key=key: pgs.tl.novelty(a, model=m, key_added=key) for key in ("", None, 3)),
    ],
    "given": [
        lambda a, m: pgs.tl.predict_phenotype(a, model=m, given={"cell_type": "cell_type_0"}),
        lambda a, m: pgs.tl.predict_phenotype(a, model=m, given=3),
        lambda a, m: pgs.tl.fill_phenotype(a, model=m, given={"cell_type": "cell_type_0"}),
        lambda a, m: given_lists(m),
    ],
    "balance": [
        lambda a, m: pgs.tl.predict_phenotype(a, model=m, balance="a"),
        lambda a, m: pgs.tl.predict_phenotype(a, model=m, balance=None),
    ],
    "coverage": [lambda a, m: pgs.tl.predict_phenotype(a, model=m, coverage="0.9")],
    "min_confidence": [lambda a, m: pgs.tl.predict_phenotype(a, model=m, min_confidence="0.5")],
    "batch_size": [
        lambda a, m: pgs.tl.predict_phenotype(a, model=m, batch_size="8"),
        lambda a, m: pgs.tl.predict_phenotype(a, model=m, batch_size=2.5),
        lambda a, m: train(a, batch_size="8"),
    ],
    "model": [
        lambda a, m: pgs.tl.predict_phenotype(a, model=""),
        lambda a, m: pgs.tl.predict_phenotype(a, model="no_such_folder"),
    ],
    "n_neighbors": [lambda a, m, n=n: pgs.tl.embed(a, model=m, n_neighbors=n) for n in (0, 1, 2.5)],
    "seed": [
        lambda a, m: pgs.tl.embed(a, model=m, seed=-1),
        lambda a, m: pgs.tl.counterfactual(a, {"cell_type": "cell_type_0"}, model=m, keep=0.5, seed=-1),
        lambda a, m: pgs.tl.generate({}, n_obs=2, model=m, seed=-1),
        lambda a, m: pgs.tl.rank_genes(a, model=m, seed=-1),
        lambda a, m: pgs.pp.prepare(a, seed=-1),
        *(lambda a, m, seed=seed: train(a, seed=seed) for seed in (-1, 1.5, "a", 2**40)),
        lambda a, m: pgs.tl.evaluate(a, phenotypes="cell_type", seed=-1),
        lambda a, m: pgs.tl.audit(a, phenotypes="cell_type", seed=-1),
    ],
    "keep": [
        lambda a, m: pgs.tl.counterfactual(a, {"cell_type": "cell_type_0"}, model=m, keep="1"),
        lambda a, m: pgs.tl.impute(a, model=m, keep="1"),
    ],
    "genes": [lambda a, m: pgs.tl.impute(a, model=m, genes=3)],
    "responses": [lambda a, m: pgs.tl.perturb(a, ["gene_24"], model=m, n_null=2, responses=["zz"])],
    "n_null": [
        lambda a, m: pgs.tl.perturb(a, ["gene_24"], model=m, n_null=2.5),
        lambda a, m: pgs.tl.evaluate(a, phenotypes="cell_type", n_null=-1),
    ],
    "n_bootstrap": [lambda a, m: pgs.tl.evaluate(a, phenotypes="cell_type", n_bootstrap=-1)],
    "train_kwargs": [
        lambda a, m: pgs.tl.evaluate(a, phenotypes="cell_type", train_kwargs=[1]),
        lambda a, m: pgs.tl.audit(a, phenotypes="cell_type", train_kwargs=[1]),
    ],
    "n_obs": [lambda a, m: pgs.tl.generate({}, n_obs=2.5, model=m)],
    "depth": [lambda a, m, d=d: pgs.tl.generate({}, n_obs=2, depth=d, model=m) for d in (np.inf, 1e30, "a")],
    "cells": [lambda a, m: pgs.tl.explain_prediction(a, [], model=m)],
    "contexts": [lambda a, m: pgs.tl.biomarkers(a, "cell_type", contexts="zz", model=m)],
    "n_permutations": [lambda a, m: pgs.tl.biomarkers(a, "cell_type", contexts="sex", model=m, n_permutations=-1)],
    "masking": [lambda a, m: pgs.tl.score_tokens(a, model=m, masking=3)],
    "split": [
        *(
            lambda a, m, split=split: train(a, split=split)
            for split in (5, "a", [0, 1, 2], ([0, 1], [1000]), (["cell_0"], ["cell_1"]), ([-1], [199]))
        ),
        lambda a, m: pgs.tl.evaluate(a, phenotypes="cell_type", split="a"),
    ],
    "max_epochs": [lambda a, m, n=n: train(a, max_epochs=n) for n in (1.5, "1")],
    "n_genes": [lambda a, m, n=n: train(a, n_genes=n) for n in (0, -1, 2.5)],
    "validation_size": [lambda a, m: train(a, validation_size="0.1")],
    "group_key": [lambda a, m: train(a, group_key=["donor"])],
    "missing": [lambda a, m: train(a, missing=3)],
    "model_kwargs": [lambda a, m: train(a, model_kwargs=[1])],
    "n_hidden": [lambda a, m: train(a, model_kwargs={"n_hidden": 0})],
    "dropout": [lambda a, m: train(a, model_kwargs={"dropout": 2})],
    "width": [lambda a, m: train(a, model_kwargs={"width": 2})],
    "adata": [lambda a, m: m.predict_phenotype(a.to_df())],
    "indices": [lambda a, m: m.predict_phenotype(a, indices=[1000])],
}


@pytest.mark.parametrize("argument", WRONG)
def test_values_that_an_argument_cannot_have(argument, model):
    for call in WRONG[argument]:
        adata = cells(seed=1)
        before = adata.obs.copy()
        with pytest.raises((ValueError, TypeError, KeyError, FileNotFoundError)) as error:
            call(adata, model)
        assert str(error.value.args[0]).startswith(f"`{argument}`:")
        pd.testing.assert_frame_equal(adata.obs, before)
        assert not {"polygene", "X_polygene"} & {*adata.uns, *adata.obsm, *adata.layers}


def test_a_split_may_be_masks():
    first = np.arange(200) < 150
    masks, rows = (
        train(cells(), split=split) for split in ((first, ~first), (np.flatnonzero(first), np.flatnonzero(~first)))
    )
    np.testing.assert_array_equal(masks.validation_indices, rows.validation_indices)
    np.testing.assert_array_equal(proba(masks, cells(seed=1)), proba(rows, cells(seed=1)))


def test_renamed_cells_with_tables_of_the_old_names(model):
    adata = cells(seed=1)
    adata.obsm["scores"] = pd.DataFrame({"x": np.zeros(200)}, index=adata.obs_names)
    adata.obs.reset_index(drop=True, inplace=True)
    columns = list(adata.obs)
    with pytest.raises(ValueError, match=r"`adata`: the tables in adata\.obsm have other cell names"):
        pgs.tl.predict_phenotype(adata, model=model)
    assert list(adata.obs) == columns


# labels


@pytest.mark.parametrize("known", [["a", "b"], ["a", "b", "a"], ["a", "a", "a", "b", "b"]])
def test_few_cells_with_a_label(known):
    adata = cells()
    adata.obs["p"] = [*known, *[None] * (200 - len(known))]
    found = train(adata, phenotypes=["p"]).predict_phenotype(adata)["p"]
    assert list(found) == ["a", "b"]
    assert np.isfinite(found.to_numpy()).all()


def test_labels_that_look_like_markup(capsys):
    adata = cells()
    adata.obs["[p]"] = ["[red]a", "[/]", "b[/b]", "[bold]c[/bold]"] * 50
    model = train(adata, phenotypes=["[p]"], group_key="donor", verbose=True)
    said = capsys.readouterr().out.replace("\n", "")
    assert all(text in said for text in ("[p]", "[red]a", "'[/]'"))
    pgs.model.Polygene.setup_anndata(adata, phenotype_keys=["[p]"])
    pgs.model.Polygene(adata).view_anndata_setup()
    repr(model)
    said = capsys.readouterr().out
    assert "[red]a" in said
    assert "phenotypes ['[p]']" in said


# values that are not numbers, and names that are not text


def dense(adata):
    return adata.X.toarray()


def with_text(adata):
    x = dense(adata).astype(object)
    x[3, 4] = "abc"
    return x


NOT_NUMBERS = {
    "text in objects": (with_text, "values of the type object"),
    "text": (lambda a: dense(a).astype(str), "values of the type <U32"),
    "complex": (lambda a: dense(a) + 2j, "values of the type complex"),
    "complex, sparse": (lambda a: a.X * (1 + 2j), "values of the type complex"),
    "masked": (lambda a: np.ma.masked_greater(dense(a), 3), "masked values"),
}


@pytest.mark.parametrize("verb", ["train", "predict", "prepare", "evaluate", "sum genes"])
@pytest.mark.parametrize(("change", "words"), NOT_NUMBERS.values(), ids=NOT_NUMBERS)
def test_what_is_not_a_number_is_refused(verb, change, words, model):
    adata = cells()
    adata.X = change(adata)
    call = {**VERBS, "sum genes": lambda a, m: pgs.pp.sum_genes(a)}[verb]
    with pytest.raises(ValueError, match=rf"`adata`: adata\.X has {words}.*numbers are needed"):
        call(adata, model)


def stored_zeros(adata):
    x = sp.csr_matrix(np.ones(adata.shape, dtype=np.float32))
    x.data = dense(adata).ravel()
    return x


def read_only(adata):
    x = dense(adata)
    x.flags.writeable = False
    return x


def in_two_parts(adata):
    x = adata.X
    return sp.csr_matrix((np.repeat(x.data / 2, 2), np.repeat(x.indices, 2), x.indptr * 2), shape=x.shape)


SAME_NUMBERS = {
    "int8": lambda a: dense(a).astype(np.int8),
    "uint64": lambda a: a.X.astype(np.uint64),
    "float16": lambda a: dense(a).astype(np.float16),
    "big-endian": lambda a: dense(a).astype(">f4"),
    "nothing masked": lambda a: np.ma.masked_array(dense(a)),
    "array": lambda a: sp.csr_array(a.X),
    "negative zeros": lambda a: np.where(dense(a) == 0, -0.0, dense(a)),
    "stored zeros": stored_zeros,
    "in two parts": in_two_parts,
    "read-only": read_only,
}


@pytest.mark.parametrize("change", SAME_NUMBERS.values(), ids=SAME_NUMBERS)
def test_the_same_numbers_in_another_form(change, model):
    adata = cells(seed=1)
    adata.X = change(adata)
    before = sp.csr_matrix(adata.X.astype(np.float32))
    np.testing.assert_allclose(proba(model, adata), proba(model, cells(seed=1)), atol=1e-6)
    assert train(adata).genes == train(cells(seed=1)).genes
    assert (sp.csr_matrix(adata.X.astype(np.float32)) != before).nnz == 0


@pytest.mark.parametrize("names", [range(80), np.arange(80) + 0.5, [None, *map(str, range(79))], [b"a", *"bc"] * 20])
@pytest.mark.parametrize("verb", ["train", "predict", "prepare"])
def test_gene_names_that_are_not_text(verb, names, model):
    adata = cells(n_vars=len(names))
    adata.var_names = pd.Index(names)
    with pytest.raises(ValueError, match=r"`adata`: \d+ of adata\.var_names are not text, e\.g\. .*astype\(str\)"):
        VERBS[verb](adata, model)


def test_a_note_of_the_user(model):
    adata = cells()
    adata.uns["polygene"] = {"train": "tomorrow"}
    with pytest.raises(ValueError, match="`model`: none was passed"):
        pgs.tl.predict_phenotype(adata)
    with pytest.raises(KeyError, match="`adata`: no training history"):
        pgs.get.history(adata)


OF_ONE_MODALITY = {
    "sum_genes": lambda d: pgs.pp.sum_genes(d),
    "confounding": lambda d: pgs.pp.confounding(d, group_key="donor"),
    "prepare": lambda d: pgs.pp.prepare(d),
    **{
        name: lambda d, name=name: getattr(pgs.get, name)(d)
        for name in ("predictions", "confusion", "probabilities", "reliability", "evaluation", "audit", "token_scores")
    },
}


@pytest.mark.parametrize("call", OF_ONE_MODALITY.values(), ids=OF_ONE_MODALITY)
def test_functions_that_do_not_know_the_modality(call, model):
    data = MuData({"rna": cells()})
    pgs.tl.predict_phenotype(data, model=model)
    with pytest.raises(TypeError, match=r"`adata`: found MuData, but AnnData is needed. Pass one modality"):
        call(data)


@pytest.mark.parametrize("shape", [(0, 80), (200, 0)])
def test_nothing_to_sum(shape):
    with pytest.raises(ValueError, match=rf"`adata`: found {shape[0]} cells and {shape[1]} genes"):
        pgs.pp.sum_genes(cells()[: shape[0], : shape[1]].copy())
