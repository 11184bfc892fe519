"""The modality of MuData: the model remembers it."""

import inspect

import mudata as md
import numpy as np
import pytest

import polygene_scverse as pgs
from polygene_scverse.model import Polygene
from polygene_scverse.tl._models import name_of_modality

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
FEW = {"max_epochs": 1, "n_genes": 20}
SHORT = {"phenotypes": ["cell_type", "sex"], "verbose": False, "max_epochs": 1}
VERBS = {
    "train": SHORT,
    "check": {},
    "predict_phenotype": {},
    "embed": {"umap": False},
    "novelty": {},
    "fill_phenotype": {},
    "joint_phenotype": {"phenotypes": ["cell_type", "sex"]},
    "score_tokens": {},
    "impute": {"keep": 0.5},
    "counterfactual": {"phenotypes": {"sex": "sex_0"}},
    "perturb": {"genes": ["gene_1"], "n_null": 2},
    "rank_genes": {},
    "explain_prediction": {"cells": ["cell_0"]},
    "gene_embeddings": {"groupby": "cell_type"},
    "gene_interactions": {"groupby": "cell_type"},
    "polyfunctionality": {"groupby": "cell_type", "n_permutations": 2},
    "biomarkers": {"phenotype": "sex", "contexts": "cell_type", "n_permutations": 2},
    "evaluate": {"phenotypes": "sex", "split": 2, "baselines": "majority", "n_bootstrap": 2, "train_kwargs": FEW},
    "audit": {"phenotypes": "sex", "n_folds": 2, "train_kwargs": FEW},
    "estimate_cost": {"phenotypes": "sex", "n_steps": 1, "verbose": False},
}


def multimodal(cells):
    other = cells[:, :3].copy()
    other.var_names = ["protein1", "protein2", "protein3"]
    with md.set_options(pull_on_update=False):
        return md.MuData({"gex": cells, "other": other})


@pytest.fixture(scope="module")
def trained():
    data = multimodal(pgs.datasets.simulate(60, 40))
    return data, pgs.tl.train(data, mod="gex", **SHORT)


def test_every_function_with_a_modality_is_tried():
    assert set(VERBS) == {
        name for name in pgs.tl.__all__ if "mod" in inspect.signature(getattr(pgs.tl, name)).parameters
    }


@pytest.mark.parametrize("verb", VERBS)
def test_the_modality_is_remembered(trained, verb):
    getattr(pgs.tl, verb)(trained[0], **VERBS[verb])


@pytest.mark.parametrize("verb", [name for name in VERBS if name not in ("train", "estimate_cost")])
def test_the_modality_is_saved(trained, verb, tmp_path):
    trained[1].save(tmp_path / "model")
    model = Polygene.load(tmp_path / "model", adata=False)
    assert model.modality == "gex"
    data = multimodal(pgs.datasets.simulate(60, 40, seed=1))
    given = {name: value for name, value in VERBS[verb].items() if name not in ("split", "baselines", "n_folds")}
    given.pop("train_kwargs", None)
    getattr(pgs.tl, verb)(data, model=model, **given)


def test_further_training_keeps_the_modality(trained):
    data = multimodal(pgs.datasets.simulate(60, 40, seed=1))
    further = {"model": trained[1], "verbose": False, "max_epochs": 1}
    assert pgs.tl.train(data, **further).modality == "gex"
    with pytest.raises(ValueError, match="`mod`: found 'other', but the model reads modality 'gex'"):
        pgs.tl.train(data, mod="other", **further)


def test_a_modality_that_is_not_there(trained):
    data = md.MuData({"rna": pgs.datasets.simulate(60, 40)})
    words = r"`mod`: 'gex' is not one of the modalities \['rna'\]. Pass one of them."
    with pytest.raises(KeyError, match=words):
        pgs.tl.predict_phenotype(data, model=trained[1])
    with pytest.raises(KeyError, match=words):
        trained[1].predict_phenotype(data)
    pgs.tl.predict_phenotype(data, model=trained[1], mod="rna")
    assert "polygene_sex" in data["rna"].obs
    with pytest.raises(KeyError, match=r"`mod`: \['rna'\] is not one of"):
        pgs.tl.predict_phenotype(data, model=trained[1], mod=["rna"])


def test_without_a_training_it_is_rna():
    data = md.MuData({"rna": pgs.datasets.simulate(20, 40)})
    assert name_of_modality(data, None) == "rna"


def test_the_figures_are_those_of_the_modality(trained):
    data, model = trained
    alone = data["gex"].copy()
    pgs.tl.predict_phenotype(data)
    pgs.tl.predict_phenotype(alone, model=model)
    key = "polygene_sex_confidence"
    np.testing.assert_array_equal(data["gex"].obs[key], alone.obs[key])
