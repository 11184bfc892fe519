"""Mixed precision gives nearly the results of full precision."""

import numpy as np
import pytest
import torch


@pytest.fixture(scope="module")
def pair():
    """A model trained in float32, and one in mixed precision on the same cells."""
    from polygene_scverse.datasets import simulate
    from polygene_scverse.model import Polygene

    models = {}
    for precision in ("32-true", "bf16-mixed"):
        adata = simulate(200, 40, effect=2.0)
        Polygene.setup_anndata(adata, phenotype_keys=["cell_type", "sex"])
        small = {"n_hidden": 16, "n_layers": 1, "n_heads": 2, "n_intermediate": 16, "dropout": 0.0}
        model = Polygene(adata, genes=list(adata.var_names), **small)
        model.train(max_epochs=5, enable_progress_bar=False, validation_size=0.2, precision=precision)
        models[precision] = model
    return models["32-true"], models["bf16-mixed"]


@pytest.mark.parametrize("name", ["train_loss", "validation_loss", "gene_loss_train", "phenotype_loss_validation"])
def test_the_curve_is_that_of_full_precision(name, pair):
    full, mixed = (model.history_[name].to_numpy(dtype=float) for model in pair)
    assert np.isfinite(mixed).all()
    np.testing.assert_allclose(mixed, full, rtol=0.02)
    assert not np.array_equal(mixed, full)  # something was computed otherwise


def test_predictions_are_those_of_full_precision(pair):
    full, mixed = (model.predict_phenotype()["cell_type"].to_numpy() for model in pair)
    np.testing.assert_allclose(mixed, full, atol=0.05)
    assert np.mean(mixed.argmax(1) == full.argmax(1)) > 0.95


def test_weights_stay_in_full_precision(pair):
    assert {p.dtype for p in pair[1].module.parameters()} == {torch.float32}


def test_mixed_precision_goes_with_accumulated_steps(trained):
    kwargs = {"model_kwargs": {"dropout": 0.0}, "precision": "bf16-mixed", "max_epochs": 2}
    whole, parts = trained(batch_size=16, **kwargs), trained(batch_size=8, accumulate_grad_batches=2, **kwargs)
    for name in ("train_loss", "validation_loss"):
        np.testing.assert_allclose(
            parts.history_[name].to_numpy(dtype=float), whole.history_[name].to_numpy(dtype=float), rtol=0.01
        )
