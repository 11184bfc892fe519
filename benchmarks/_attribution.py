"""Genes behind the prediction of a cell according to several methods, and the prediction after they are deleted.

Shapes: B cells, V visible genes, G genes, C categories.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from anndata import AnnData
from torch import Tensor
from torch.nn import functional as F

from polygene_scverse.abilities._explain_prediction import soonest
from polygene_scverse.abilities._gene_contributions import contrasts_of, linear_weights, occlude
from polygene_scverse.abilities._predict import linear_share, unseen_offsets
from polygene_scverse.engine import INPUTS, Batch, Engine, Query
from polygene_scverse.fit._gene_scaler import rescale
from polygene_scverse.model import Polygene

STEPS = 8
"""Number of points on the path of integrated gradients."""
ROUNDS = 5
"""Number of rounds of the greedy deletion."""
FULL = "no gene"
RANKED = "occlusion, against all others (tl.rank_genes)"
EXPLAINED = "occlusion, against the nearest category (tl.explain_prediction)"


@dataclass(frozen=True)
class Attribution:
    """Attribution of a model's predictions of one phenotype to genes.

    Parameters
    ----------
    model
        The model.
    phenotype
        The phenotype.
    n_deleted
        Number of genes to delete in each cell.
    other
        Weights of another method for each gene and category, to delete its genes as well; shape (G, C).
    """

    model: Polygene
    phenotype: str
    n_deleted: int
    other: np.ndarray

    def deletions(self, cells: AnnData) -> dict[str, np.ndarray]:
        """Log-odds of the predicted category, with all genes and without the top genes of each method; (n_cells,)."""
        names: list[str] = []

        def ask(batch: Batch) -> list[Tensor]:
            with torch.inference_mode(mode=False), torch.enable_grad():
                results = self._of_batch({name: value.clone() for name, value in batch.items()})
            names[:] = list(results)
            return [torch.stack([value.detach() for value in results.values()], dim=1)]

        engine, source = Engine(self.model.module, 16), self.model._cells(cells)
        return dict(zip(names, engine.gather(source, Query(), ask)[0].T, strict=True))

    def _of_batch(self, batch: Batch) -> dict[str, Tensor]:
        engine, module, state = Engine(self.model.module, 16), self.model.module, self.model.fitted_
        slot = module.layout.phenotype_names.index(self.phenotype)
        s, first = module.layout.n_special, sum(module.n_categories[:slot])
        own = slice(first, first + module.n_categories[slot])
        shares, offset = linear_share(engine, state), unseen_offsets(engine, state)[slot]
        share, temperature = float(shares[slot]), state.temperature(self.phenotype)
        visible = batch["key_mask"][:, s:]
        genes = (batch["positions"][:, s : batch["key_mask"].shape[1]] - module.layout.first_gene_position).clamp(min=0)
        expression = torch.from_numpy(rescale(batch["values"].numpy())).float()
        weights = torch.from_numpy(linear_weights(engine, slot)).float()
        linear = torch.minimum(expression, module.linear.cap[genes])[..., None] * weights[genes]  # (B, V, C)
        average = (module.linear.bias - (module.linear.centre * batch["measured"]) @ module.linear.weights)[..., own]

        def log_p(batch: Batch, gate: Tensor) -> Tensor:
            """Log-probabilities if each visible gene is scaled by its gate; (B, C). The genes that are read stay."""
            mixed = (1 - share) * self._gated(batch, gate, slot) + share * ((gate[..., None] * linear).sum(1) + average)
            return ((mixed + offset) / temperature).log_softmax(-1)

        def calibrated(gate: Tensor) -> Tensor:
            """Calibrated logits without the genes whose gate is 0; (B, C)."""
            kept = _with_special(gate, s) > 0
            cells = {name: batch[name] for name in INPUTS}
            cells |= {name: batch[name] * kept for name in ("tokens", "positions")}
            cells |= {"key_mask": batch["key_mask"] & kept, "values": batch["values"] * gate}
            with torch.inference_mode():
                logits = module.predict(**cells, linear_share=shares)[slot] + offset
            return (logits / temperature).double()

        def log_odds(gate: Tensor) -> Tensor:
            """Log-odds of the category that is predicted with all genes; (B,)."""
            logits = calibrated(gate)
            others = logits.scatter(1, guess[:, None], -torch.inf)
            return logits[cells, guess] - others.logsumexp(1)

        everything = visible.float()
        full = calibrated(everything).softmax(-1).float().clone()
        guess, cells = full.argmax(1), torch.arange(len(full))
        with torch.inference_mode():
            of_gene = (1 - share) * occlude(engine, batch, slot).float() + share * linear
        of_gene = of_gene.clone()
        by_share = torch.from_numpy(contrasts_of(engine, state, slot)).float()[:, guess].T  # (B, C)
        others = full.scatter(1, guess[:, None], 0.0)
        by_probability = F.one_hot(guess, full.shape[1]) - others / others.sum(1, keepdim=True).clamp(min=1e-12)
        speaks = (of_gene[cells, :, guess][..., None] - of_gene) / temperature  # (B, V, C)
        against = soonest(speaks.numpy(), full.double().log().numpy(), guess.numpy())
        gradients, to_likely = torch.zeros(2, *everything.shape)
        for step in range(STEPS):
            gate = (everything * (step + 0.5) / STEPS).requires_grad_()
            gradients += torch.autograd.grad(log_p(batch, gate)[cells, guess].sum(), gate)[0] / STEPS
            to_likely += torch.autograd.grad((log_p(batch, gate) * by_probability).sum(), gate)[0] / STEPS
        random = torch.rand(everything.shape, generator=torch.Generator().manual_seed(0))
        other = expression * torch.from_numpy(self.other).float()[genes, guess[:, None]]
        scores = {
            RANKED: (of_gene * by_share[:, None]).sum(-1),
            EXPLAINED: speaks[cells, :, against],
            "occlusion, other categories by probability": (of_gene * by_probability[:, None]).sum(-1),
            "integrated gradients of the log-probability": gradients,
            "integrated gradients, other categories by probability": to_likely,
            "linear path alone": (linear * by_share[:, None]).sum(-1),
            "logistic regression's genes": other,
            "random genes": random,
        }
        results = {FULL: log_odds(everything)}
        for name, values in scores.items():
            results[name] = log_odds(_without(everything, values, self.n_deleted))
        left = everything
        for _ in range(ROUNDS):
            gate = left.clone().requires_grad_()
            slope = torch.autograd.grad(log_p(batch, gate)[cells, guess].sum(), gate)[0]
            left = _without(left, slope, self.n_deleted // ROUNDS)
        results["gradient, taken anew after every 4 genes"] = log_odds(left)
        return results

    def _gated(self, batch: Batch, gate: Tensor, slot: int) -> Tensor:
        """Logits of the transformer if attention to each gene is multiplied by its gate; (B, C)."""
        module = self.model.module
        tokens, positions, mask = (batch[name] for name in INPUTS[:3])
        gate = _with_special(gate, module.layout.n_special)
        columns, read = module.columns_read(positions, mask & (gate > 0))
        n = columns.shape[1]
        tokens, positions = tokens.gather(1, columns), positions.gather(1, columns)
        gate = gate.gather(1, columns) * read
        bias = gate.clamp(min=1e-12).log()[:, None, None, :]  # (B, 1, 1, K)
        x = module.encoder.embeddings(tokens, positions)
        for block in module.encoder.blocks:
            x = block(x, x[:, :n], bias)
        hidden = x[:, 1 : 1 + module.layout.n_phenotypes]
        logits: Tensor = module.generative(hidden, None, module._shown(tokens, hidden))["phenotype_logits"][slot]
        return logits


def _with_special(gate: Tensor, n: int) -> Tensor:
    """Gates of all keys, with those of the `n` special tokens open; (B, K)."""
    return torch.cat([gate.new_ones(len(gate), n), gate], dim=1)


def _without(gate: Tensor, scores: Tensor, n: int) -> Tensor:
    """Set the gate of the `n` visible genes with the highest scores to zero."""
    top = torch.where(gate > 0, scores, -torch.inf).topk(min(n, gate.shape[1]), dim=1).indices
    return gate.scatter(1, top, 0.0)


def weights_of(
    coefficients: np.ndarray, classes: list[str], columns: list[str], model: Polygene, phenotype: str
) -> np.ndarray:
    """Reorder coefficients of shape (classes, columns) to the genes and categories of a model; shape (G, C)."""
    found = np.zeros((len(model.genes), len(model.categories[phenotype])))
    at = {gene: i for i, gene in enumerate(model.genes)}
    for c, category in enumerate(model.categories[phenotype]):
        for column, gene in enumerate(columns):
            if category in classes and gene in at:
                found[at[gene], c] = coefficients[classes.index(category), column]
    return found
