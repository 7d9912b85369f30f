"""Training jobs and what they share: models, optimizers, schedules, data, bit-exact checkpoints."""
