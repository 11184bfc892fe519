"""The optimiser against Hugging Face's schedules, the logged scores against scikit-learn."""

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, f1_score
from transformers import get_constant_schedule_with_warmup, get_cosine_schedule_with_warmup
from transformers import get_linear_schedule_with_warmup as get_linear

from polygene_scverse.data.feed._loader import CellSplitter
from polygene_scverse.data.feed._masking import MaskingRates
from polygene_scverse.datasets import simulate
from polygene_scverse.model import Polygene
from polygene_scverse.model.training._plan import PolygeneTrainingPlan
from polygene_scverse.module import PolygeneModule

SMALL = {"n_hidden": 16, "n_layers": 1, "n_heads": 2, "n_intermediate": 16}
TRAIN, VALIDATION = np.arange(60), np.arange(60, 100)
NOTHING_HIDDEN = {"expressed": 0.0, "not_expressed": 0.0, "gene_dropout": 0.0}


class Rates(pl.Callback):
    """Learning rate of each step, and the settings of each group."""

    def __init__(self):
        self.rates, self.groups = [], []

    def on_train_batch_start(self, trainer, *_):
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])
        self.groups = [
            {k: g[k] for k in ("lr", "weight_decay", "initial_lr", "eps")} for g in trainer.optimizers[0].param_groups
        ]


def trained(adata=None, phenotypes=("cell_type", "sex"), loss=None, n_bins=5, dropout=0.0, linear_path=True, **kwargs):
    adata = simulate(100, 40, missing=0.1) if adata is None else adata
    Polygene.setup_anndata(adata, phenotype_keys=list(phenotypes))
    settings = {"n_bins": n_bins, "loss": loss, "linear_path": linear_path, **SMALL, "dropout": dropout}
    model = Polygene(adata, genes=list(adata.var_names), **settings)
    quiet = {"max_epochs": 2, "enable_progress_bar": False, "split": (TRAIN, VALIDATION)}
    model.train(**{**quiet, **kwargs})
    return model


def last(model, key):
    return model.history_[key].iloc[-1, 0]


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [("linear", get_linear), ("cosine", get_cosine_schedule_with_warmup), ("constant", None)],
    ids=["linear", "cosine", "constant"],
)
def test_schedule_is_hugging_faces(schedule, expected):
    seen = Rates()
    plan = {"lr": 0.01, "warmup": 0.25, "schedule": schedule}
    trained(max_epochs=5, batch_size=15, callbacks=[seen], plan_kwargs=plan)  # 4 steps per epoch
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.01)
    oracle = expected(optimizer, 5, 20) if expected else get_constant_schedule_with_warmup(optimizer, 5)
    rates = []
    for _ in range(20):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        oracle.step()
    assert len(seen.rates) == 20
    np.testing.assert_allclose(seen.rates[5:], rates[5:], rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(
        seen.rates[:5], [0.002, 0.004, 0.006, 0.008, 0.01]
    )  # theirs loses a step: it begins at 0


def test_matrices_decay_and_biases_do_not():
    seen = Rates()
    plan = {"lr": 0.01, "weight_decay": 0.5, "decoder_factor": 3.0}
    model = trained(max_epochs=1, callbacks=[seen], plan_kwargs=plan)
    rates = [(0.01, 0.5), (0.01, 0.0), (0.03, 0.5), (0.03, 0.0)]  # the gene decoder learns faster
    np.testing.assert_allclose([(g["initial_lr"], g["weight_decay"]) for g in seen.groups], rates)
    assert [g["eps"] for g in seen.groups] == [1e-8] * 4
    optimizer = model.trainer.optimizers[0]
    groups = [{id(p) for p in group["params"]} for group in optimizer.param_groups]
    for name, p in model.module.named_parameters():
        assert id(p) in groups[2 * name.startswith("gene_decoder.") + (p.ndim <= 1)], name
    assert sum(map(len, groups)) == len(list(model.module.parameters()))
    assert isinstance(optimizer, torch.optim.AdamW)


@pytest.mark.parametrize(("n_hidden", "lr"), [(64, 0.002), (768, 0.002 / 12), (16, 0.008)])
def test_default_learning_rate_falls_with_the_width(n_hidden, lr, cells, model_of):
    model = model_of(cells(60), n_hidden=n_hidden, n_layers=1, n_intermediate=8)
    assert PolygeneTrainingPlan(model.module).lr == pytest.approx(lr)
    assert PolygeneTrainingPlan(model.module, lr=0.5).lr == 0.5


def test_without_a_gene_decoder_there_are_two_groups(cells, model_of):
    seen = Rates()
    model = model_of(cells(100), gene_decoder=False)
    model.train(max_epochs=1, enable_progress_bar=False, callbacks=[seen], plan_kwargs={"lr": 0.01})
    assert [g["initial_lr"] for g in seen.groups] == [0.01, 0.01]


def test_unknown_schedule_is_refused():
    with pytest.raises(ValueError, match="`schedule`: found 'step', but it must be 'linear', 'cosine' or 'constant'"):
        trained(plan_kwargs={"schedule": "step"})


def test_unknown_plan_argument_is_refused():
    with pytest.raises(TypeError, match="learning_rate"):
        trained(plan_kwargs={"learning_rate": 0.1})


@pytest.mark.parametrize(
    ("rise", "weights"), [(0.5, [0.2, 0.56, 0.92, 1.28, 1.64, 2.0, 2.0, 2.0, 2.0, 2.0]), (0.0, [2.0] * 10)]
)
def test_genes_come_first(rise, weights, monkeypatch):
    seen = []
    loss = PolygeneModule.loss

    def noted(self, *args, **kwargs):
        output = loss(self, *args, **kwargs)
        metrics = output.extra_metrics
        if self.training:
            seen.append(float((output.loss.detach() - metrics["gene_loss"]) / metrics["phenotype_loss"]))
        return output

    monkeypatch.setattr(PolygeneModule, "loss", noted)
    plan = {"phenotype_rise": rise}
    trained(max_epochs=5, batch_size=30, plan_kwargs=plan, loss={"phenotype_weight": 2.0})
    np.testing.assert_allclose(seen, weights, rtol=1e-4)


def test_the_rise_is_a_share():
    with pytest.raises(
        ValueError, match="`phenotype_rise`: found 3, but it must be a fraction of the steps, from 0 to 1"
    ):
        trained(plan_kwargs={"phenotype_rise": 3})


def test_history_keys():
    model = trained()
    scores = [f"{p}_{score}" for p in ("cell_type", "sex") for score in ("accuracy", "macro_f1")]
    expected_final = {f"{score}_final" for score in scores}
    scores += ["gene_nll", "gene_accuracy", "gene_accuracy_expressed", "gene_loss", "phenotype_loss"]
    expected = {"train_loss", "validation_loss", "gene_loss_train", "phenotype_loss_train"}
    expected |= {f"{score}_validation" for score in scores}
    assert set(model.history_) == expected | expected_final
    for name, table in model.history_.items():
        assert len(table) == (1 if name in expected_final else 2)
        assert np.isfinite(table.to_numpy(dtype=float)).all()


def test_phenotype_scores_equal_scikit_learns():
    """They are those of the transformer: the linear path is fitted when training has ended."""
    model = trained(masking=NOTHING_HIDDEN, batch_size=7, linear_path=False)
    codes, predicted = model.codes(VALIDATION), model.decide(model.predict_phenotype(indices=VALIDATION))
    for name in ("cell_type", "sex"):
        known = codes[name] >= 0
        assert not known.all()
        guess = predicted[name].cat.codes.to_numpy()[known]
        assert last(model, f"{name}_accuracy_validation") == pytest.approx(accuracy_score(codes[name][known], guess))
        f1 = f1_score(codes[name][known], guess, average="macro")
        assert last(model, f"{name}_macro_f1_validation") == pytest.approx(f1)
    assert 0 < f1 < 1


@pytest.mark.parametrize("n_bins", [2, 5])
def test_gene_scores_equal_scikit_learns(n_bins):
    model = trained(batch_size=7, n_bins=n_bins)
    table = model._cells(model.adata, VALIDATION).read_all()
    splitter = CellSplitter(table, table, MaskingRates(), batch_size=40)
    (batch,) = splitter.val_dataloader()
    with torch.no_grad():
        outputs = model.module.inference(**model.module._get_inference_input(batch))
        logits = model.module.generative(**outputs)["gene_logits"].numpy()
    bins = batch["target_bins"].numpy()
    known, expressed = bins >= 0, bins > 0
    accuracy = accuracy_score(bins[known], logits.argmax(-1)[known])
    assert last(model, "gene_accuracy_validation") == pytest.approx(accuracy)
    of_expressed = accuracy_score(bins[expressed], 1 + logits[..., 1:].argmax(-1)[expressed])
    assert last(model, "gene_accuracy_expressed_validation") == pytest.approx(of_expressed)


def test_losses_in_the_history_are_those_of_the_module():
    model = trained(batch_size=7, loss={"phenotype_weight": 2.0})
    total = last(model, "gene_loss_validation") + 2.0 * last(model, "phenotype_loss_validation")
    assert last(model, "validation_loss") == pytest.approx(total, rel=1e-5)


def test_losses_are_means_over_targets_however_batches_are_cut():
    """A mean of the batches' means would depend on the batch size."""
    still = {"lr": 0.0}
    losses = [
        {key: last(model, key) for key in ("gene_loss_validation", "phenotype_loss_validation", "phenotype_loss_train")}
        for model in (trained(batch_size=b, plan_kwargs=still, max_epochs=1) for b in (7, 60))
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_validation_asks_the_same_each_time():
    """Without learning, every epoch scores the same."""
    model = trained(max_epochs=3, plan_kwargs={"lr": 0.0})
    assert model.history_["validation_loss"].nunique().item() == 1
    assert model.history_["train_loss"].nunique().item() == 3


def test_scores_without_a_known_label_or_a_target():
    adata = simulate(100, 40)
    adata.obs.iloc[VALIDATION, adata.obs.columns.get_loc("sex")] = np.nan
    model = trained(adata, masking=NOTHING_HIDDEN)
    assert last(model, "validation_loss") == pytest.approx(
        model.module.loss_config.phenotype_weight * last(model, "phenotype_loss_validation"), rel=1e-5
    )
    assert np.isfinite(last(model, "cell_type_accuracy_validation"))
    for key in ("sex_accuracy", "sex_macro_f1", "gene_accuracy", "gene_accuracy_expressed"):
        assert np.isnan(last(model, f"{key}_validation"))


@pytest.mark.parametrize("name", ["cell.type", "gene", "items", "train loss"])
def test_any_column_name_can_be_scored(name):
    adata = simulate(100, 40)
    adata.obs[name] = adata.obs["cell_type"]
    model = trained(adata, phenotypes=[name], masking=NOTHING_HIDDEN, linear_path=False)
    key = "phenotype_gene" if name == "gene" else name
    guess = model.predict_phenotype(indices=VALIDATION)[name].to_numpy().argmax(1)
    accuracy = accuracy_score(model.codes(VALIDATION)[name], guess)
    assert last(model, f"{key}_accuracy_validation") == pytest.approx(accuracy)


def test_scores_are_made_for_each_phenotype():
    plan = PolygeneTrainingPlan(trained(max_epochs=1).module)
    assert list(plan.val_scores) == [
        "cell_type_accuracy",
        "cell_type_macro_f1",
        "sex_accuracy",
        "sex_macro_f1",
        "gene_nll",
        "gene_accuracy",
        "gene_accuracy_expressed",
    ]
