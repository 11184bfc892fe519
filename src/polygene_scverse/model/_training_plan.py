"""How the network is trained: optimiser, schedule, and what is logged."""

from __future__ import annotations

import math
from typing import Any

import torch
from scvi.module.base import LossOutput
from scvi.train import TrainingPlan
from torch import Tensor
from torchmetrics import MeanMetric, Metric
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score

from polygene_scverse.module import PolygeneModule

Batch = dict[str, Tensor]


class PolygeneTrainingPlan(TrainingPlan):
    """AdamW with warm-up and decay; unlike its parent it logs accuracies instead of an evidence bound.

    Parameters
    ----------
    module
        The network.
    lr
        Highest learning rate.
    weight_decay
        Weight decay of matrices; biases and normalisations have none.
    warmup
        Share of the steps in which the learning rate rises.
    schedule
        How it falls afterwards: ``"linear"`` or ``"cosine"``, to zero; ``"constant"`` keeps it.
    linear_lr
        Learning rate of the linear path.
    """

    def __init__(
        self,
        module: PolygeneModule,
        *,
        lr: float = 1e-3,
        weight_decay: float = 0.01,
        warmup: float = 0.1,
        schedule: str = "linear",
        linear_lr: float | None = None,
        **kwargs: Any,
    ) -> None:
        if schedule not in ("linear", "cosine", "constant"):
            raise ValueError(f"`schedule`: found {schedule!r}, but it must be 'linear', 'cosine' or 'constant'.")
        super().__init__(module, lr=lr, weight_decay=weight_decay, eps=1e-8, **kwargs)
        self.warmup, self.schedule, self.linear_lr = warmup, schedule, linear_lr
        self.val_scores = torch.nn.ModuleDict(_validation_metrics(module))

    def configure_optimizers(self) -> dict[str, Any]:
        """AdamW and the schedule, stepped with every batch."""
        matrices, others = [], []
        for name, p in self.module.named_parameters():
            if p.requires_grad and name != "bag":
                (matrices if p.ndim > 1 else others).append(p)
        groups: list[dict[str, Any]] = [{"params": matrices}, {"params": others, "weight_decay": 0.0}]
        if self.module.bag is not None:
            groups.append({"params": [self.module.bag], "lr": self.linear_lr or self.lr})
        optimizer = torch.optim.AdamW(groups, lr=self.lr, weight_decay=self.weight_decay)
        n_steps = max(1, int(self.trainer.estimated_stepping_batches))
        n_warmup = max(1, round(n_steps * self.warmup))

        def factor(step: int) -> float:
            if step < n_warmup:
                return (step + 1) / n_warmup
            done = min(1.0, (step - n_warmup) / max(1, n_steps - n_warmup))
            return {"constant": 1.0, "linear": 1.0 - done, "cosine": 0.5 * (1 + math.cos(math.pi * done))}[
                self.schedule
            ]

        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def _loss(self, batch: Batch) -> tuple[dict[str, Any], LossOutput]:
        module = self.module
        outputs = module.inference(**module._get_inference_input(batch))
        logits = module.generative(**module._get_generative_input(batch, outputs))
        return logits, module.loss(batch, outputs, logits, denominators=self._denominators(batch))

    def _denominators(self, batch: Batch) -> Tensor | None:
        """Targets and known values of an average process, so that averaged gradients are those of the global mean."""
        if self.trainer.world_size == 1:
            return None
        counts = self.module.count_targets(batch).to(torch.float32)
        return self.trainer.strategy.reduce(counts, reduce_op="mean").clamp(min=1e-8)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Loss of a batch."""
        _, output = self._loss(batch)
        self._log("train_loss", output.loss.detach(), batch, prog_bar=True)
        for name, value in output.extra_metrics.items():
            self._log(f"{name}_train", value, batch)
        return output.loss

    @torch.no_grad()
    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Losses and accuracies of a batch; every phenotype is hidden, targets are the same in each epoch."""
        logits, output = self._loss(batch)
        self._log("validation_loss", output.loss, batch, prog_bar=True)
        for name, value in output.extra_metrics.items():
            self._log(f"{name}_validation", value, batch)
        self._update_scores(batch, logits)
        for name, metric in self.val_scores.items():
            self.log(f"{name}_validation", metric, on_step=False, on_epoch=True, batch_size=len(batch["tokens"]))

    def _update_scores(self, batch: Batch, logits: dict[str, Any]) -> None:
        for i, name in enumerate(self.module.layout.phenotype_names):
            codes = batch["phenotypes"][:, i]
            for score in ("accuracy", "macro_f1"):
                self.val_scores[f"{name}_{score}"].update(logits["phenotype_logits"][i], codes)
        bins = batch["target_bins"]
        known, expressed = bins >= 0, bins > 0
        gene_logits = logits["gene_logits"]
        self.val_scores["gene_accuracy"].update((gene_logits.argmax(-1) == bins)[known].float())
        of_expressed = 1 + gene_logits[..., 1:].argmax(-1)
        self.val_scores["gene_accuracy_expressed"].update((of_expressed == bins)[expressed].float())

    def _log(self, name: str, value: Tensor, batch: Batch, **kwargs: Any) -> None:
        self.log(
            name,
            value,
            on_step=False,
            on_epoch=True,
            batch_size=len(batch["tokens"]),
            sync_dist=self.trainer.world_size > 1,
            **kwargs,
        )


def _validation_metrics(module: PolygeneModule) -> dict[str, Metric]:
    """Per phenotype accuracy and macro-F1; gene-bin accuracy of all targets, and of expressed ones among bins 1 and up."""
    metrics: dict[str, Metric] = {}
    for slot in module.layout.phenotypes:
        n = len(slot.categories)
        metrics[f"{slot.name}_accuracy"] = MulticlassAccuracy(n, average="micro", ignore_index=-1)
        metrics[f"{slot.name}_macro_f1"] = MulticlassF1Score(n, average="macro", ignore_index=-1)
    return metrics | {name: MeanMetric(nan_strategy="ignore") for name in ("gene_accuracy", "gene_accuracy_expressed")}
