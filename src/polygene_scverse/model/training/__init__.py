"""Training: plan, trainer, checkpoints and cost."""
