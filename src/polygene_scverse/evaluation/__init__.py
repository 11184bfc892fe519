"""Comparison of the model with baselines, on cells of groups that were not used in training."""
