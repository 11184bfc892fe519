"""Queries to the network (tokens that are shown, set, removed or predicted), and the loop over cells."""

from polygene_scverse.engine._decode import bin_nll, log_shares, probabilities
from polygene_scverse.engine._engine import INPUTS, Batch, Engine
from polygene_scverse.engine._query import Query, RandomHiding

__all__ = ["INPUTS", "Batch", "Engine", "Query", "RandomHiding", "bin_nll", "log_shares", "probabilities"]
