"""Training: one loop, tasks beside it, checkpoints without pickle."""
