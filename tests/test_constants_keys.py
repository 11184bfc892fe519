"""Keys that are made from names of the user's: one for each, and any file holds them."""

import itertools
import warnings

import anndata as ad
import mudata as md
import numpy as np
import pandas as pd
import pytest

import polygene_scverse as pgs
from polygene_scverse import _constants as keys
from polygene_scverse.datasets import simulate

OF_OBS = (
    *(keys.prediction_key, keys.confidence_key, keys.expected_key),
    *(keys.filled_key, keys.filled_probability_key),
)
PARTS = (*keys.OBS_SUFFIXES, "x", "audit", "novelty", "joint", "%", "/", "\\", "%2F", "5F", "", ".", "_", "\n", "é")


def names():
    return {"".join(parts) for n in range(4) for parts in itertools.product(PARTS, repeat=n)}


def test_usual_names_stay():
    made = [key("cell_type") for key in (*OF_OBS, keys.probability_key, keys.set_key, keys.audit_key)]
    ends = ["", "_confidence", "_expected", "_filled", "_filled_probability", "_proba", "_set"]
    assert made == [*(f"polygene_cell_type{end}" for end in ends), "polygene_audit_cell_type"]
    for name in ("cell type (fine)", "CD4+ T", "a.b", "data_set", "x_proba", "µ", "1", "novelty", "x:y", "a|b"):
        assert keys.prediction_key(name) == f"polygene_{name}"


def test_no_two_results_have_one_key():
    found = {}
    for name, key_of in itertools.product(names(), OF_OBS):
        key = key_of(name)
        assert not set(key) & set("/\\\n")
        assert found.setdefault(key, (name, key_of)) == (name, key_of)
    assert len({key_of(n) for n in names() for key_of in (keys.probability_key, keys.set_key)}) == 2 * len(names())


def test_keys_tell_the_name():
    for name in names():
        assert keys.name_of_note(keys.note_key(name)) == name
        assert keys.phenotype_of(keys.prediction_key(name)) == name
    assert keys.phenotype_of("leiden") is None
    assert keys.phenotype_of("polygene_x_confidence") is None


NASTY = {
    "slash": ["CD4+/CD25 state", "/lead", "a//b"],
    "backslash": ["a\\b", "C:\\x", "end\\"],
    "dots": [".", "..", ".hidden"],
    "percent": ["% mito", "%2F", "a%5Fconfidence"],
    "ends": ["x", "x_confidence", "x_filled"],
    "more ends": ["x_proba", "x_set", "x_filled_probability"],
    "spaces": [" padded ", "a b", "new\nline"],
    "unicode": ["größe", "年齢", "🧬"],
    "words": ["train", "predict", "index"],
    "colours": ["x_colors", "x_colors_confidence", "x"],
}


def labelled(phenotypes, n_obs=80, seed=0):
    cells = simulate(n_obs, 30, phenotypes={"a": 2, "b": 2, "c": 3}, missing=0.1, seed=seed)
    cells.obs = cells.obs.rename(columns=dict(zip("abc", phenotypes, strict=True)))
    del cells.uns["simulation"], cells.obsm["truth"], cells.var["phenotype"]
    return cells


@pytest.fixture(scope="module", params=NASTY.values(), ids=NASTY.keys())
def answered(request):
    """Cells that all verbs wrote into."""
    phenotypes = request.param
    cells = labelled(phenotypes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        kwargs = {"model_kwargs": {"n_hidden": 8, "n_heads": 2, "n_layers": 1, "n_intermediate": 8}}
        model = pgs.tl.train(cells, phenotypes=phenotypes, max_epochs=1, verbose=False, **kwargs)
        pgs.tl.predict_phenotype(cells, model=model, coverage=0.5)
        pgs.tl.fill_phenotype(cells, model=model)
        pgs.tl.joint_phenotype(cells, phenotypes=phenotypes[:2], model=model)
        pgs.tl.novelty(cells, model=model)
        pgs.tl.embed(cells, model=model, umap=False)
        pgs.tl.score_tokens(cells, model=model)
        pgs.tl.gene_interactions(cells, groupby=phenotypes[0], model=model, min_cells=1)
        pgs.tl.audit(cells, phenotypes=phenotypes, model=model)
    return cells, phenotypes, model


def to_h5ad(cells, folder):
    cells.write_h5ad(folder / "x.h5ad")
    return ad.read_h5ad(folder / "x.h5ad")


def to_zarr(cells, folder):
    cells.write_zarr(folder / "x.zarr")
    return ad.read_zarr(folder / "x.zarr")


def to_h5mu(cells, folder):
    md.MuData({"rna": cells}).write(folder / "x.h5mu")
    return md.read_h5mu(folder / "x.h5mu").mod["rna"]


def results(cells, phenotypes):
    """All that `get` reads."""
    found = {"history": pgs.get.history(cells), "audit": pgs.get.audit(cells)}
    for name in phenotypes:
        found[f"predictions {name}"] = pgs.get.predictions(cells, name)
        found[f"probabilities {name}"] = pgs.get.probabilities(cells, name)
        found[f"sets {name}"] = pgs.get.prediction_sets(cells, name)
        found[f"confusion {name}"] = pgs.get.confusion(cells, name)
        found[f"reliability {name}"] = pgs.get.reliability(cells, name)
        found[f"abstention {name}"] = pgs.get.abstention(cells, name)
        found[f"tokens {name}"] = pgs.get.token_confusion(cells, name)
        found[f"audit {name}"] = pgs.get.audit(cells, phenotype=name)
        found[f"filled {name}"] = cells.obs[[keys.filled_key(name), keys.filled_probability_key(name)]]
    found["genes"] = pgs.get.gene_interactions(cells, cells.uns["polygene"]["gene_interactions"]["contexts"][0])
    found["joint"] = cells.obs[[f"polygene_joint{end}" for end in keys.JOINT_ENDS]]
    found["novelty"] = cells.obs[["polygene_novelty"]]
    return found


@pytest.mark.filterwarnings("ignore::Warning")
@pytest.mark.parametrize("through", [to_h5ad, to_zarr, to_h5mu])
def test_all_results_come_back_from_disk(answered, tmp_path, through):
    cells, phenotypes, _ = answered
    before = results(cells, phenotypes)
    plain = {name: f"column {i}" for i, name in enumerate(phenotypes)}  # the user's own column is the user's
    bare = cells.copy()
    bare.obs = bare.obs.rename(columns=plain)
    after = through(bare, tmp_path)
    after.obs = after.obs.rename(columns={new: name for name, new in plain.items()})
    after = results(after, phenotypes)
    assert set(after) == set(before)
    for name, table in before.items():
        assert list(after[name].columns) == list(table.columns), name
        pd.testing.assert_frame_equal(
            *(t.astype(object).where(t.notna(), None) for t in (after[name], table)), obj=name, check_dtype=False
        )


def test_predicted_phenotypes_are_found(answered):
    cells, phenotypes, _ = answered
    from polygene_scverse.get._lookup import predicted_phenotypes

    assert predicted_phenotypes(cells) == phenotypes


def test_no_verb_writes_over_another(answered):
    """Each column has the kind of values that its verb writes."""
    cells, phenotypes, model = answered
    for name in phenotypes:
        assert list(cells.obs[keys.prediction_key(name)].cat.categories) == model.categories[name]
        for key in (keys.confidence_key, keys.filled_probability_key, keys.audit_key):
            assert cells.obs[key(name)].dtype.kind == "f"
        known = cells.obs[name].notna()
        assert (cells.obs[keys.filled_key(name)][known].astype(str) == cells.obs[name][known].astype(str)).all()


@pytest.mark.filterwarnings("ignore::Warning")
def test_models_with_such_names_are_saved(answered, tmp_path):
    _, phenotypes, model = answered
    model.save(tmp_path / "m")
    loaded = pgs.model.Polygene.load(tmp_path / "m", adata=False)
    query = labelled(phenotypes, 10, seed=1)
    a, b = model.predict_phenotype(query), loaded.predict_phenotype(query)
    for name in phenotypes:
        np.testing.assert_array_equal(a[name], b[name])


# columns that two verbs would write


def quick(phenotypes, **kwargs):
    cells = simulate(60, 30, phenotypes=phenotypes, **kwargs)
    model = pgs.tl.train(cells, phenotypes=list(phenotypes), max_epochs=1, verbose=False)
    return cells, model


CLASHES = {
    "novelty": ("novelty", lambda c, m: pgs.tl.novelty(c, model=m)),
    "joint": ("joint", lambda c, m: pgs.tl.joint_phenotype(c, phenotypes=["x", "joint"], model=m)),
    "joint_flagged": (
        "joint_flagged",
        lambda c, m: pgs.tl.joint_phenotype(c, phenotypes=["x", "joint_flagged"], model=m),
    ),
    "audit_x": ("audit_x", lambda c, m: pgs.tl.audit(c, phenotypes=["x"], model=m)),
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(("name", "verb"), CLASHES.values(), ids=CLASHES.keys())
def test_a_phenotype_with_the_name_of_a_verb_is_not_lost(name, verb):
    cells, model = quick({"x": 2, name: 2})
    pgs.tl.predict_phenotype(cells, model=model)
    before = cells.obs.copy()
    with pytest.raises(ValueError, match=rf"obs\['polygene_{name}'\], but that column holds what pgs.tl.predict_ph"):
        verb(cells, model)
    pd.testing.assert_frame_equal(cells.obs, before)
    cells.obs["kept"] = cells.obs.pop(f"polygene_{name}")
    verb(cells, model)
    after = cells.obs.copy()
    with pytest.raises(ValueError, match=rf"predict_phenotype would write adata.obs\['polygene_{name}'\]"):
        pgs.tl.predict_phenotype(cells, model=model)
    pd.testing.assert_frame_equal(cells.obs, after)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_novelty_can_be_written_elsewhere():
    cells, model = quick({"x": 2, "novelty": 2})
    pgs.tl.predict_phenotype(cells, model=model)
    pgs.tl.novelty(cells, model=model, key_added="strangeness")
    assert cells.obs["strangeness"].dtype.kind == "f"
    assert list(cells.obs["polygene_novelty"].cat.categories) == model.categories["novelty"]
    pgs.tl.predict_phenotype(cells, model=model)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_recorded_labels_are_not_written_over():
    cells, model = quick({"x": 2, "polygene_x": 2})
    with pytest.raises(ValueError, match=r"obs\['polygene_x'\], but that column holds labels that the model"):
        pgs.tl.predict_phenotype(cells, model=model)


# what the user keeps in uns


OWN = {"text": "our note", "list": [1, 2], "array": np.arange(3), "table": pd.DataFrame({"a": [1]})}
VERBS = {
    "train": lambda c, m: pgs.tl.train(c, phenotypes=["x"], max_epochs=1, verbose=False),
    "predict": lambda c, m: pgs.tl.predict_phenotype(c, model=m),
    "fill": lambda c, m: pgs.tl.fill_phenotype(c, model=m),
    "joint": lambda c, m: pgs.tl.joint_phenotype(c, phenotypes=["x", "y"], model=m),
    "novelty": lambda c, m: pgs.tl.novelty(c, model=m),
    "tokens": lambda c, m: pgs.tl.score_tokens(c, model=m),
    "gene_interactions": lambda c, m: pgs.tl.gene_interactions(c, model=m),
    "polyfunctionality": lambda c, m: pgs.tl.polyfunctionality(c, "x", model=m),
    "biomarkers": lambda c, m: pgs.tl.biomarkers(c, "x", contexts="y", model=m),
    "audit": lambda c, m: pgs.tl.audit(c, phenotypes=["x"], model=m),
    "evaluate": lambda c, m: pgs.tl.evaluate(c, phenotypes=["x"], baselines=[]),
    "prepare": lambda c, m: pgs.pp.prepare(c),
}


@pytest.fixture(scope="module")
def two():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return quick({"x": 2, "y": 2})


@pytest.mark.parametrize(("entry", "verb"), VERBS.items(), ids=VERBS.keys())
def test_what_the_user_keeps_there_is_not_destroyed(two, entry, verb, monkeypatch):
    model = two[1]
    computed = ["predict_phenotype", "joint_phenotype", "novelty", "count_hidden_tokens", "get_gene_states", "train"]
    computed += ["polyfunctionality", "biomarkers"]
    for name in computed:
        monkeypatch.setattr(pgs.model.Polygene, name, lambda *_, **__: pytest.fail("computed before the refusal"))
    for own in (*OWN.values(), {entry: "monday"}, {entry: [1]}):
        cells = two[0].copy()
        cells.uns["polygene"] = own
        before = cells.obs.copy()
        with pytest.raises(ValueError, match=r"`adata`: adata\.uns\['polygene'\].*adata\.uns\['my_note'\] = "):
            verb(cells, model)
        if isinstance(own, pd.DataFrame):  # AnnData copies it
            pd.testing.assert_frame_equal(cells.uns["polygene"], own)
        else:
            assert cells.uns["polygene"] is own
        pd.testing.assert_frame_equal(cells.obs, before)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_other_entries_of_the_user_stay(two):
    cells = two[0].copy()
    cells.uns["polygene"] = {"mine": "note"}
    pgs.tl.predict_phenotype(cells, model=two[1])
    pgs.tl.predict_phenotype(cells, model=two[1])
    assert cells.uns["polygene"]["mine"] == "note"


@pytest.mark.parametrize("own", OWN.values(), ids=OWN.keys())
def test_readers_say_that_nothing_is_noted(two, own):
    cells = two[0].copy()
    cells.uns["polygene"] = own
    for read in (pgs.get.history, pgs.get.audit, pgs.get.evaluation, pgs.get.token_confusion):
        with pytest.raises(KeyError, match=r"Call pgs\.tl\."):
            read(cells)


@pytest.mark.parametrize("key", ["a/b", "", "a\\b", "."])
def test_keys_that_files_cannot_hold_are_refused(two, key):
    cells, model = two
    for verb in (pgs.tl.embed, pgs.tl.novelty, pgs.tl.score_tokens, pgs.tl.gene_interactions):
        with pytest.raises(ValueError, match=r"`key_added`: found "):
            verb(cells, model=model, key_added=key)
    with pytest.raises(ValueError, match=r"`key_added`: found "):
        pgs.tl.joint_phenotype(cells, phenotypes=["x", "y"], model=model, key_added=key)


@pytest.mark.parametrize("key", ["train", "predict", "balance"])
def test_keys_of_other_verbs_are_refused(two, key):
    for verb in (pgs.tl.score_tokens, pgs.tl.gene_interactions):
        with pytest.raises(ValueError, match=r"is written by another function"):
            verb(two[0], model=two[1], key_added=key)


# colours


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    ("values", "label"),
    [([1, 2], "1"), ([1.0, 2.0], "1"), ([False, True], "False"), (["a", "b"], "a")],
    ids=["whole", "floating", "boolean", "text"],
)
@pytest.mark.parametrize("categorical", [True, False])
def test_labels_keep_their_colours(values, label, categorical):
    cells = simulate(60, 30, phenotypes={"x": 2})
    codes = cells.obs["x"].cat.codes.to_numpy()
    column = pd.Series(np.array(values)[codes], index=cells.obs_names)
    cells.obs["x"] = column.astype("category") if categorical else column
    cells.uns["x_colors"] = ["#aa0000", "#00bb00"]
    model = pgs.tl.train(cells, phenotypes=["x"], max_epochs=1, verbose=False)
    pgs.tl.predict_phenotype(cells, model=model)
    assert list(cells.uns["polygene_x_colors"]) == ["#aa0000", "#00bb00"]
    assert model.categories["x"][0] == label
    from polygene_scverse.pl._style import note_colors

    del cells.uns["polygene_x_colors"]
    note_colors(cells, "polygene_x")
    assert list(cells.uns["polygene_x_colors"]) == ["#aa0000", "#00bb00"]


# few cells


@pytest.mark.filterwarnings("ignore::UserWarning:umap", "ignore:.*n_jobs:UserWarning", "ignore:.*:RuntimeWarning")
@pytest.mark.parametrize("n", range(1, 7))
def test_few_cells_are_embedded(two, n):
    query = simulate(60, 30, phenotypes={"x": 2, "y": 2}, seed=2)[:n].copy()
    query.obsm["X_polygene_umap"] = np.zeros((n, 2))
    if n < 4:
        with pytest.warns(UserWarning, match=rf"`umap`: {n} cells are too few for a UMAP, which needs 4"):
            pgs.tl.embed(query, model=two[1])
        assert list(query.obsm) == ["truth", "X_polygene"]
    else:
        pgs.tl.embed(query, model=two[1])
        assert query.obsm["X_polygene_umap"].any()


def test_nothing_is_written_if_the_umap_fails(two, monkeypatch):
    import scanpy as sc

    query = two[0][:10].copy()
    monkeypatch.setattr(sc.tl, "umap", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        pgs.tl.embed(query, model=two[1])
    assert list(query.obsm) == ["truth"]
