"""One training: plan, trainer, checkpoints, cost."""
