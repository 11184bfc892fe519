"""Train, predict, embed: the verbs that write into AnnData."""

from polygene_scverse.tl._embed import embed
from polygene_scverse.tl._predict_phenotype import predict_phenotype
from polygene_scverse.tl._train import train

__all__ = ["embed", "predict_phenotype", "train"]
