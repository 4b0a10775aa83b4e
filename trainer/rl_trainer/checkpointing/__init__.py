"""Checkpoints: the state of a model, its replay buffer, and the chain of a trial in the store."""
