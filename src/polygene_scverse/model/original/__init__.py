"""Import and export of checkpoints of the original Polygene."""
