"""A model on a GPU gives what it gives on a CPU; ``POLYGENE_TEST_DEVICE=cpu`` tries the tests themselves."""

import copy
import os
import warnings

import numpy as np
import pytest
import torch

import polygene_scverse as pgs
from polygene_scverse.data.feed._loader import BatchDataset
from polygene_scverse.data.feed._masking import MaskingRates
from polygene_scverse.datasets import simulate
from polygene_scverse.model import Polygene

pytestmark = pytest.mark.gpu

DEVICE = os.environ.get("POLYGENE_TEST_DEVICE", "cuda")
ACCELERATOR = "gpu" if DEVICE.startswith("cuda") else "cpu"
SMALL = {"n_hidden": 32, "n_layers": 2, "n_heads": 2, "n_intermediate": 64, "dropout": 0.0}
TRAINING = {"max_epochs": 4, "enable_progress_bar": False, "validation_size": 0.2, "seed": 0}


@pytest.fixture(scope="module", autouse=True)
def device():
    """Where the tests compute."""
    if DEVICE.startswith("cuda") and not torch.cuda.is_available():
        pytest.skip("torch sees no CUDA device; POLYGENE_TEST_DEVICE=cpu runs these tests on the processor")
    return DEVICE


def simulated():
    """Cells of which the phenotypes can be told."""
    return simulate(300, 60, effect=2.0)


def model_of(adata, **kwargs):
    """An untrained model."""
    Polygene.setup_anndata(adata, phenotype_keys=["cell_type", "sex"])
    return Polygene(adata, genes=list(adata.var_names), **(SMALL | kwargs))


@pytest.fixture(scope="module")
def pair(device):
    """The same trained model on the CPU and on the device, and cells for each."""
    adata = simulated()
    on_cpu = model_of(adata)
    on_cpu.train(accelerator="cpu", **TRAINING)
    moved = model_of(simulated())
    moved.module.load_state_dict(on_cpu.module.state_dict())
    moved.fitted_, moved.edges_, moved.is_trained_ = on_cpu.fitted_, on_cpu.edges_, True
    moved.to_device(device)
    return on_cpu, moved, adata


def imputed(model, adata):
    """Expected expression of all genes."""
    pgs.tl.impute(adata, model=model, layer_added="imputed")
    return adata.to_df(layer="imputed")


VERBS = {
    "probabilities": lambda model, adata: model.predict_phenotype(adata)["cell_type"].to_numpy(),
    "known ones as evidence": lambda model, adata: model.predict_phenotype(adata, phenotypes="cell_type", given="sex")[
        "cell_type"
    ].to_numpy(),
    "several phenotypes at once": lambda model, adata: model.joint_phenotype(adata, phenotypes=["cell_type", "sex"]),
    "embedding": lambda model, adata: model.get_latent_representation(adata),
    "novelty": lambda model, adata: model.novelty(adata).to_numpy(),
    "counterfactual": lambda model, adata: pgs.tl.counterfactual(adata, {"sex": "sex_0"}, model=model).to_df(),
    "imputed": lambda model, adata: imputed(model, adata),
    "gene states": lambda model, adata: pgs.tl.gene_embeddings(adata, model=model, groupby="cell_type").X,
}


@pytest.mark.parametrize("verb", list(VERBS))
def test_results_equal_those_of_the_cpu(verb, pair):
    on_cpu, moved, adata = pair
    expected, found = (np.asarray(VERBS[verb](model, adata.copy()), dtype=float) for model in (on_cpu, moved))
    assert np.isfinite(expected).any()
    np.testing.assert_allclose(found, expected, atol=1e-3, rtol=1e-3)


def test_generated_cells_are_those_of_the_cpu(pair):
    on_cpu, moved, _ = pair
    first, second = (
        pgs.tl.generate({"cell_type": on_cpu.categories["cell_type"][0]}, n_obs=50, model=model, seed=0)
        for model in (on_cpu, moved)
    )
    np.testing.assert_array_equal(first.layers["counts"].toarray(), second.layers["counts"].toarray())


def test_gradients_equal_those_of_the_cpu(device, pair):
    on_cpu, _, adata = pair
    batch = BatchDataset(on_cpu._cells(adata, None).read_all(), MaskingRates())[0, np.arange(32)]
    gradients = {}
    for where in ("cpu", device):
        module = copy.deepcopy(on_cpu.module).to(where).train()
        module({name: tensor.to(where) for name, tensor in batch.items()})[2].loss.backward()
        gradients[where] = {n: p.grad.cpu().clone() for n, p in module.named_parameters() if p.grad is not None}
    assert len(gradients["cpu"]) > 10
    for name, expected in gradients["cpu"].items():
        scale = float(expected.abs().max())
        torch.testing.assert_close(gradients[device][name], expected, atol=1e-3 * max(scale, 1e-6), rtol=1e-3)


@pytest.mark.parametrize(("precision", "tolerance"), [("32-true", 0.005), ("bf16-mixed", 0.02)])
def test_a_training_goes_as_on_the_cpu(precision, tolerance, device):
    curves = {}
    for where, accelerator in (("cpu", "cpu"), (device, ACCELERATOR)):
        model = model_of(simulated())
        model.train(
            accelerator=accelerator, devices=1, **TRAINING, **({} if where == "cpu" else {"precision": precision})
        )
        curves[where] = model.history_["train_loss"].to_numpy(dtype=float)
        scores = (model.predict_phenotype()["cell_type"].idxmax(axis=1) == model.adata.obs["cell_type"]).mean()
        assert scores > 0.7
    np.testing.assert_allclose(curves[device], curves["cpu"], rtol=tolerance)


def test_a_model_saved_on_the_device_loads_on_the_cpu(pair, tmp_path):
    on_cpu, moved, adata = pair
    moved.save(tmp_path / "model", save_anndata=False)
    loaded = Polygene.load(tmp_path / "model", adata=False, accelerator="cpu")
    expected = on_cpu.predict_phenotype(adata)["cell_type"]
    np.testing.assert_array_equal(loaded.predict_phenotype(adata)["cell_type"], expected)


@pytest.mark.skipif(not DEVICE.startswith("cuda"), reason="only a GPU can be told how much memory to give")
def test_smaller_batches_where_memory_runs_out():
    model = model_of(simulate(2000, 400, effect=2.0))
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, (before + 2**28) / total))
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            model.train(accelerator="gpu", devices=1, batch_size=2000, **(TRAINING | {"max_epochs": 1}))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert any("Memory ran out" in str(w.message) for w in caught)
    assert np.isfinite(model.history_["train_loss"].to_numpy(dtype=float)).all()
