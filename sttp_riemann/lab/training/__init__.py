"""Training: one loop, the tasks that it runs, checkpoints without pickle."""
