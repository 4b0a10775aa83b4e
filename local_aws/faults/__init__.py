"""Faults on demand, with a seed, so that a failure can be replayed."""
