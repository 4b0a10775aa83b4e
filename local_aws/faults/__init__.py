"""Faults on demand, with a seed, so that you can repeat a failure."""
