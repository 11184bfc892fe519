"""Masking and assembly of batches from tokens."""
