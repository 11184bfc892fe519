"""Tools: train, predict, embed and more. These functions write into AnnData."""

from polygene_scverse.tl._audit import audit
from polygene_scverse.tl._biomarkers import biomarkers
from polygene_scverse.tl._check import check
from polygene_scverse.tl._check_generated import check_generated
from polygene_scverse.tl._counterfactual import counterfactual
from polygene_scverse.tl._embed import embed
from polygene_scverse.tl._estimate_cost import estimate_cost
from polygene_scverse.tl._evaluate import evaluate
from polygene_scverse.tl._explain_prediction import explain_prediction
from polygene_scverse.tl._fill_phenotype import fill_phenotype
from polygene_scverse.tl._gene_embeddings import gene_embeddings
from polygene_scverse.tl._gene_interactions import gene_interactions
from polygene_scverse.tl._generate import generate
from polygene_scverse.tl._impute import impute
from polygene_scverse.tl._joint_phenotype import joint_phenotype
from polygene_scverse.tl._novelty import novelty
from polygene_scverse.tl._perturb import perturb
from polygene_scverse.tl._polyfunctionality import polyfunctionality
from polygene_scverse.tl._predict_phenotype import predict_phenotype
from polygene_scverse.tl._rank_genes import rank_genes
from polygene_scverse.tl._score_tokens import score_tokens
from polygene_scverse.tl._train import train

__all__ = [
    "audit",
    "biomarkers",
    "check",
    "check_generated",
    "counterfactual",
    "embed",
    "estimate_cost",
    "evaluate",
    "explain_prediction",
    "fill_phenotype",
    "gene_embeddings",
    "gene_interactions",
    "generate",
    "impute",
    "joint_phenotype",
    "novelty",
    "perturb",
    "polyfunctionality",
    "predict_phenotype",
    "rank_genes",
    "score_tokens",
    "train",
]
