"""Genes whose role differs between contexts, with a null distribution over groups.

Shapes: D groups, C contexts, G genes, H = n_hidden.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from polygene_scverse.abilities._gene_roles import GeneRoles
from polygene_scverse.metrics._pooled_p import false_discovery_rate, pooled_p

MIN_GROUPS: Final = 5
"""Minimum number of groups with two contexts for a test."""
MIN_POOL: Final = 100
"""Number of genes whose permuted statistics are pooled, if there are enough."""
VARIANCE: Final = 0.95
"""Share of the variance of mean roles in the components that are regressed out."""
GENES_PER_COMPONENT: Final = 20
"""Minimum number of genes for each of these components."""
ROUNDS: Final = 4
"""Number of reweighted regressions; each downweights genes that the previous one fitted badly."""
RIDGE: Final = 1e-3
"""Ridge penalty, as a share of the variance of a regressor."""


@dataclass(frozen=True)
class Polyfunctionality:
    """Shift of the role of each gene between contexts.

    Parameters
    ----------
    genes
        Genes of the model.
    contexts
        Names of the contexts.
    shift
        Length of the shift shared by groups, relative to the median length of a gene's role; NaN for genes with fewer
        than two contexts. Shape (G,).
    farthest
        Context whose role is farthest from the mean over contexts, -1 for none; shape (G,).
    expression_shift
        Difference between the highest and the lowest mean expression of the contexts; shape (G,).
    n_groups
        Number of groups that have the gene in at least two contexts; shape (G,).
    p_value, fdr
        NaN where nothing could be tested; shape (G,).
    n_null
        Number of groups in the null.
    """

    genes: list[str]
    contexts: list[str]
    shift: NDArray[np.float64]
    farthest: NDArray[np.int64]
    expression_shift: NDArray[np.float64]
    n_groups: NDArray[np.int64]
    p_value: NDArray[np.float64]
    fdr: NDArray[np.float64]
    n_null: int


def polyfunctionality(found: GeneRoles, *, min_cells: int, n_permutations: int, seed: int) -> Polyfunctionality:
    """Shift of roles beyond what expression and a shift shared by all genes explain.

    Parameters
    ----------
    found
        Roles by context and group.
    min_cells
        Minimum number of cells of a context and group that express a gene.
    n_permutations
        Permutations of the contexts within groups.
    seed
        Seed of the permutations.

    Notes
    -----
    In each group and context, the roles of all genes, minus their means over the contexts of the group, are regressed
    on expression and on the components of their mean roles. This removes a linear map between contexts, in the same way
    as word embeddings of two periods are aligned before they are compared [1]_. Genes that are fitted badly are
    downweighted in the next regression. The component along a gene's own mean role is removed as well, because its
    length depends on the expression level and on the mix of cells. None of this depends on the labels of the contexts,
    so contexts within a group can be permuted afterwards.

    The statistic is the ratio of the sum of squares between contexts to that within contexts. In each permutation, the
    contexts of equally many groups are rotated by each number of steps, so that a gene with a true shift does not
    affect the null.

    References
    ----------
    .. [1] Hamilton, Leskovec, Jurafsky. Diachronic word embeddings reveal statistical laws of semantic change.
       ACL 2016.
    """
    contexts, groups = list(dict.fromkeys(found.contexts)), list(dict.fromkeys(found.groups))
    at = ([groups.index(g) for g in found.groups], [contexts.index(c) for c in found.contexts])
    shape = (len(groups), len(contexts), len(found.genes))
    roles, covariates = np.zeros((*shape, found.roles.shape[-1])), np.zeros((*shape, found.covariates.shape[-1]))
    there, expression = np.zeros(shape, dtype=bool), np.full(shape, np.nan)
    roles[at], covariates[at], there[at], expression[at] = (
        found.roles, found.covariates, found.n_cells >= min_cells, found.expression
    )  # fmt: skip
    own = (roles * there[..., None]).sum((0, 1)) / np.maximum(there.sum((0, 1)), 1)[:, None]  # (G, H)
    there &= there.sum(1, keepdims=True) >= 2
    moves = residuals(roles, covariates, own, there)
    n_groups = there.any(1).sum(0)
    between, within = sums_of_squares(moves, there)
    of_noise = within / np.maximum(n_groups - 1, 1)
    n_means = np.maximum(there.any(0).sum(0), 1)
    length = np.maximum(between - of_noise, 0.0) / np.maximum(there.sum((0, 1)), 1)
    known = n_groups > 0
    unit = np.median(np.linalg.norm(own[known], axis=1)) if known.any() else 1.0
    shift = np.where(known, np.sqrt(length) / max(unit, 1e-12), np.nan)
    means = moves.sum(0) / np.maximum(there.sum(0), 1)[..., None]  # (C, G, H)
    farthest = np.where(known & (n_means > 1), np.linalg.norm(means, axis=-1).argmax(0), -1)
    usable = n_groups >= MIN_GROUPS
    p_value = np.full(len(known), np.nan)
    if usable.any():
        p_value[usable] = permutation_p(moves[:, :, usable], there[:, :, usable], n_permutations, seed)
    with np.errstate(invalid="ignore"):
        of_contexts = np.nansum(expression, 0) / np.maximum((~np.isnan(expression)).sum(0), 1)  # (C, G)
    return Polyfunctionality(
        found.genes, contexts, shift, farthest, np.ptp(of_contexts, axis=0), n_groups, p_value,
        false_discovery_rate(p_value), int(n_groups.max(initial=0)) if usable.any() else 0,
    )  # fmt: skip


def residuals(
    roles: NDArray[np.float64], covariates: NDArray[np.float64], own: NDArray[np.float64], there: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Residual shifts of roles between the contexts of a group; 0 where a gene is absent.

    Parameters
    ----------
    roles, covariates
        Shapes (D, C, G, H) and (D, C, G, any).
    own
        Mean role of each gene; shape (G, H).
    there
        Which genes are present, in groups where they have at least two contexts; shape (D, C, G).
    """
    scores, lengths, _ = np.linalg.svd(own - own.mean(0), full_matrices=False)
    enough = 1 + np.searchsorted(np.cumsum(lengths**2), VARIANCE * (lengths**2).sum())
    components = scores[:, : min(enough, there.any((0, 1)).sum() // GENES_PER_COMPONENT)]
    moves, changes = _centred(roles, there), _centred(covariates, there)
    weights, known = np.ones(len(own)), there.any((0, 1))
    if not known.any():
        return np.zeros_like(moves)
    for _ in range(ROUNDS):
        left = _unexplained(moves, changes, components, there, weights)
        sizes = (left**2).sum((0, 1, 3)) / np.maximum(there.sum((0, 1)), 1)  # independent of the labels of contexts
        weights = 1.0 / np.maximum(sizes / max(np.median(sizes[known]), 1e-300), 1.0)
    direction = own / np.maximum(np.linalg.norm(own, axis=1, keepdims=True), 1e-12)
    left -= np.einsum("dcgh,gh->dcg", left, direction)[..., None] * direction
    return _centred(left, there)


def _unexplained(
    moves: NDArray[np.float64],
    changes: NDArray[np.float64],
    components: NDArray[np.float64],
    there: NDArray[np.bool_],
    weights: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Residuals of weighted regressions over genes, in each group and context."""
    left = np.zeros_like(moves)
    for d, c in np.ndindex(there.shape[:2]):
        genes = there[d, c]
        if not genes.any():
            continue
        w = weights[genes, None] / weights[genes].sum()
        x = np.concatenate([changes[d, c, genes], components[genes]], axis=1)  # (n_genes, R)
        x = x - (w * x).sum(0)
        x /= np.maximum(np.sqrt((w * x**2).sum(0)), 1e-9)
        y = moves[d, c, genes] - (w * moves[d, c, genes]).sum(0)
        slopes = np.linalg.solve(x.T @ (w * x) + RIDGE * np.eye(x.shape[1]), x.T @ (w * y))
        left[d, c, genes] = y - x @ slopes
    return left


def _centred(values: NDArray[np.float64], there: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Subtract the mean over the contexts of the group; 0 where a gene is absent."""
    kept = there[..., None]
    means = (values * kept).sum(1, keepdims=True) / np.maximum(kept.sum(1, keepdims=True), 1)
    centred: NDArray[np.float64] = (values - means) * kept
    return centred


def sums_of_squares(
    moves: NDArray[np.float64], there: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sums of squares between contexts and, within contexts, between groups; shape (G,) each.

    Parameters
    ----------
    moves, there
        Shapes (D, C, G, H) and (D, C, G); `moves` is 0 where a gene is absent.
    """
    n = np.maximum(there.sum(0), 1)
    between = ((moves.sum(0) ** 2).sum(-1) / n).sum(0)
    return between, (moves**2).sum((0, 1, 3)) - between


def permute(moves: NDArray[np.float64], there: NDArray[np.bool_], random: np.random.Generator) -> NDArray[np.float64]:
    """Rotate the contexts of each group, with groups spread evenly over the numbers of steps.

    Parameters
    ----------
    moves, there
        As for `sums_of_squares`; a gene stays within the contexts in which it is present.
    random
        Random generator.
    """
    order = random.permutation(moves.shape[1])
    permuted = np.empty_like(moves)
    for step, d in enumerate(random.permutation(len(moves))):
        kept = there[d][order]  # (C, G)
        if kept.all():
            permuted[d, order] = np.roll(moves[d, order], step, axis=0)
            continue
        rank, n = np.cumsum(kept, axis=0) - 1, np.maximum(kept.sum(0), 1)
        places = np.argsort(~kept, axis=0, kind="stable")  # contexts in which the gene is present come first
        target = np.take_along_axis(places, np.where(kept, (rank + step) % n, rank.clip(0)), axis=0)
        source = np.where(kept, target, np.arange(len(kept))[:, None])
        permuted[d, order] = np.take_along_axis(moves[d, order], source[..., None], axis=0)
    return permuted


def permutation_p(
    moves: NDArray[np.float64], there: NDArray[np.bool_], n_permutations: int, seed: int
) -> NDArray[np.float64]:
    """P-values from permuted contexts, pooled over genes that are present in as many groups; shape (G,).

    Parameters
    ----------
    moves, there
        As for `sums_of_squares`.
    n_permutations, seed
        As for `polyfunctionality`.
    """
    random = np.random.default_rng(seed)
    n_groups = there.any(1).sum(0)
    degrees = np.maximum(n_groups - 1, 1) / np.maximum(there.any(0).sum(0) - 1, 1)

    def statistic(values: NDArray[np.float64]) -> NDArray[np.float64]:
        between, within = sums_of_squares(values, there)
        ratio: NDArray[np.float64] = between / np.maximum(within, 1e-300) * degrees
        return ratio

    observed = statistic(moves)
    null = np.stack([statistic(permute(moves, there, random)) for _ in range(n_permutations)])
    p_value = np.ones(len(observed))
    for n in np.unique(n_groups):
        alike = _alike(n_groups, int(n))
        p_value[n_groups == n] = pooled_p(observed[n_groups == n], null[:, alike])
    return p_value


def _alike(n_groups: NDArray[np.int64], n: int) -> NDArray[np.bool_]:
    """Genes that are present in about `n` groups, preferring fewer groups, whose statistics have a wider spread."""
    for low in range(n, 0, -1):
        alike = (n_groups <= n) & (n_groups >= low)
        if alike.sum() >= MIN_POOL:
            return alike
    return n_groups >= 1
