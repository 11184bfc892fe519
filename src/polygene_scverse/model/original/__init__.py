"""Checkpoints of the original Polygene, in and out."""
