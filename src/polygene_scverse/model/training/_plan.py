"""Training plan: optimiser, learning rate schedule and logging."""

from __future__ import annotations

import math
from typing import Any

import torch
from scvi.module.base import LossOutput
from scvi.train import TrainingPlan
from torch import Tensor
from torchmetrics import MeanMetric, Metric
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score

from polygene_scverse.engine import Batch, bin_nll, log_shares
from polygene_scverse.fit._category_counts import category_counts
from polygene_scverse.fit._decision import choose_category
from polygene_scverse.model.training._final_scores import score_name
from polygene_scverse.module import PolygeneModule

SUMS = "polygene_sums"
"""Entry of a checkpoint with the sums of an incomplete epoch."""
LR, LR_HIDDEN = 2e-3, 64
"""Default learning rate, and the number of hidden units that it is for."""
LEAST_WEIGHT = 0.1
"""Share of the phenotypes' weight at the start of training."""


class PolygeneTrainingPlan(TrainingPlan):
    """AdamW with warm-up and decay; unlike its parent class it logs accuracies instead of an evidence lower bound.

    Parameters
    ----------
    module
        The network.
    lr
        Maximum learning rate of the encoder and the heads. By default 0.002 with 64 hidden units, and inversely
        proportional to their number, as suits Adam (Yang et al., NeurIPS 2021, arXiv:2203.03466).
    decoder_factor
        Factor on the learning rate of the gene decoder, whose weights start at zero.
    weight_decay
        Weight decay of matrices; biases and normalisation layers have none.
    warmup
        Share of the steps in which the learning rate increases.
    schedule
        Shape of the decay: ``"linear"`` or ``"cosine"``, to zero; ``"constant"`` for none.
    phenotype_rise
        Share of the steps in which the weight of the phenotypes increases from a tenth to the full weight in the
        module's `LossConfig`, because genes are learned more slowly than phenotypes.
    """

    def __init__(
        self,
        module: PolygeneModule,
        *,
        lr: float | None = None,
        decoder_factor: float = 5.0,
        weight_decay: float = 0.01,
        warmup: float = 0.1,
        schedule: str = "linear",
        phenotype_rise: float = 0.25,
    ) -> None:
        if schedule not in ("linear", "cosine", "constant"):
            raise ValueError(f"`schedule`: found {schedule!r}, but it must be 'linear', 'cosine' or 'constant'.")
        if not 0.0 <= phenotype_rise <= 1.0:
            raise ValueError(
                f"`phenotype_rise`: found {phenotype_rise}, but it must be a fraction of the steps, from 0 to 1."
            )
        if lr is None:
            lr = LR * LR_HIDDEN / module.config.n_hidden
        super().__init__(module, lr=lr, weight_decay=weight_decay, eps=1e-8)
        self.decoder_factor, self.warmup = decoder_factor, warmup
        self.schedule, self.phenotype_rise = schedule, phenotype_rise
        self._n_steps = 1
        self._sums: Tensor | None = None
        self._train_sums: Tensor | None = None
        metrics = _validation_metrics(module)
        self.score_names = list(metrics)
        self.score_list = torch.nn.ModuleList(metrics.values())  # a ModuleDict does not accept names with a dot

    def configure_optimizers(self) -> dict[str, Any]:
        """AdamW and the schedule, which is updated after every batch."""
        groups: list[dict[str, Any]] = []
        for of_decoder, lr in ((False, self.lr), (True, self.decoder_factor * self.lr)):
            named = (item for item in self.module.named_parameters() if item[1].requires_grad)
            part = [p for name, p in named if name.startswith("gene_decoder.") == of_decoder]
            groups.append({"params": [p for p in part if p.ndim > 1], "lr": lr})
            groups.append({"params": [p for p in part if p.ndim <= 1], "lr": lr, "weight_decay": 0.0})
        groups = [group for group in groups if group["params"]]
        fused = str(self.trainer.precision).startswith("32")  # Lightning cannot clip fused in mixed precision
        optimizer = torch.optim.AdamW(groups, lr=self.lr, weight_decay=self.weight_decay, fused=fused)
        n_steps = self._n_steps = max(1, int(self.trainer.estimated_stepping_batches))
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

    def on_fit_start(self) -> None:
        """Set the shares of the categories in the training cells, which weight the decisions."""
        counts = category_counts(self.trainer.datamodule.train.codes, self.module.n_categories)
        self._log_shares = [log_shares(c).to(self.device) for c in counts]

    def _loss(self, batch: Batch, **kwargs: Any) -> tuple[dict[str, Any], LossOutput]:
        module = self.module
        outputs = module.inference(**module._get_inference_input(batch))
        logits = module.generative(**module._get_generative_input(batch, outputs))
        return logits, module.loss(batch, outputs, logits, **kwargs)

    def _phenotype_weight(self) -> float:
        """Weight of the phenotypes in this step."""
        n_rising = self._n_steps * self.phenotype_rise
        risen = 1.0 if n_rising == 0 else min(1.0, self.trainer.global_step / n_rising)
        return self.module.loss_config.phenotype_weight * (LEAST_WEIGHT + (1.0 - LEAST_WEIGHT) * risen)

    def _denominators(self, batch: Batch) -> Tensor | None:
        """Targets and known values of an average batch of the step, over all processes and accumulated batches.

        Gradients are averaged over both. With these denominators the average is the gradient of the mean over the step.
        """
        counts = batch.get("denominators")
        if self.trainer.world_size == 1:
            return counts
        counts = self.module.count_targets(batch).float() if counts is None else counts
        return self.trainer.strategy.reduce(counts.clone(), reduce_op="mean")  # in place

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Loss of a batch."""
        weight = self._phenotype_weight()
        _, output = self._loss(batch, denominators=self._denominators(batch), phenotype_weight=weight)
        self._add(batch, output)
        return output.loss

    def on_train_epoch_end(self) -> None:
        """Log the mean losses of the epoch."""
        self._log_losses("train", "train_loss")

    @torch.no_grad()
    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Losses and accuracies of a batch, with all phenotypes hidden and the same targets in each epoch."""
        logits, output = self._loss(batch)
        self._add(batch, output)
        self._update_scores(batch, logits)

    def on_validation_epoch_start(self) -> None:
        """Save the sums of the training cells while validation runs."""
        self._train_sums, self._sums = self._sums, None

    def on_validation_epoch_end(self) -> None:
        """Log the mean losses and scores of the validation cells, and restore the sums of the training cells."""
        self._log_losses("validation", "validation_loss")
        for name, metric in self.val_scores.items():
            self.log(f"{name}_validation", metric)
        self._sums = self._train_sums

    def _add(self, batch: Batch, output: LossOutput) -> None:
        """Accumulate losses and their denominators, as a mean of batch means is not the mean over cells."""
        sums = torch.stack([output.extra_metrics["loss_sums"], self.module.count_targets(batch).float()])  # (2, 1 + P)
        self._sums = sums if self._sums is None else self._sums + sums

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the sums of an incomplete epoch."""
        if self._sums is not None:
            checkpoint[SUMS] = self.trainer.strategy.reduce(self._sums.clone(), reduce_op="sum").cpu()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the sums on rank 0 only, because they are summed over processes."""
        sums = checkpoint.get(SUMS)
        self._sums = None if sums is None else sums.to(self.device) * (self.trainer.global_rank == 0)

    def _log_losses(self, mode: str, total: str) -> None:
        if self._sums is None:
            return
        sums = self.trainer.strategy.reduce(self._sums, reduce_op="sum")
        means = sums[0] / sums[1].clamp(min=1)
        gene, phenotype = means[0], means[1:].mean()
        loss = gene + self.module.loss_config.phenotype_weight * phenotype
        several = self.trainer.world_size > 1  # all have the same values, but Lightning requires the flag
        self.log(total, loss, prog_bar=True, sync_dist=several)
        self.log(f"gene_loss_{mode}", gene, sync_dist=several)
        self.log(f"phenotype_loss_{mode}", phenotype, sync_dist=several)
        self._sums = None

    @property
    def val_scores(self) -> dict[str, Any]:
        """Metrics of the validation cells by name."""
        return dict(zip(self.score_names, self.score_list, strict=True))

    def _update_scores(self, batch: Batch, logits: dict[str, Any]) -> None:
        if not len(batch["phenotypes"]):  # a process may have no cells in the last batch
            return
        scores, shares = self.val_scores, self._log_shares
        for i, name in enumerate(self.module.layout.phenotype_names):
            codes = batch["phenotypes"][:, i]
            decided = choose_category(logits["phenotype_logits"][i], shares[i])
            for score in ("accuracy", "macro_f1"):
                scores[score_name(name, score)].update(decided, codes)
        bins = batch["target_bins"]
        known, expressed = bins >= 0, bins > 0
        gene_logits = logits["gene_logits"].float()
        scores["gene_nll"].update(bin_nll(gene_logits, bins, batch["zero_offset"][:, None])[known])
        scores["gene_accuracy"].update((gene_logits.argmax(-1) == bins)[known].float())
        guessed = 1 + gene_logits[..., 1:].argmax(-1)
        scores["gene_accuracy_expressed"].update((guessed == bins)[expressed].float())


def _known_score(score: Tensor, *counts: Tensor | list[Tensor]) -> Tensor:
    """Score, or NaN without known labels, where torchmetrics returns 0; `counts` are the counts of known labels."""
    return score if any(torch.as_tensor(count).any() for count in counts) else torch.full_like(score, torch.nan)


class _Accuracy(MulticlassAccuracy):
    def compute(self) -> Tensor:
        return _known_score(super().compute(), self.tp, self.fn)


class _MacroF1(MulticlassF1Score):
    def compute(self) -> Tensor:
        return _known_score(super().compute(), self.tp, self.fn)


def _validation_metrics(module: PolygeneModule) -> dict[str, Metric]:
    """Accuracy and macro-F1 per phenotype; NLL and accuracy of gene bins, and accuracy of expressed genes' bins."""
    metrics: dict[str, Metric] = {}
    for slot in module.layout.phenotypes:
        n = len(slot.categories)
        metrics[score_name(slot.name, "accuracy")] = _Accuracy(n, average="micro", ignore_index=-1)
        metrics[score_name(slot.name, "macro_f1")] = _MacroF1(n, average="macro", ignore_index=-1)
    gene_scores = ("gene_nll", "gene_accuracy", "gene_accuracy_expressed")
    return metrics | {name: MeanMetric(nan_strategy="ignore") for name in gene_scores}
