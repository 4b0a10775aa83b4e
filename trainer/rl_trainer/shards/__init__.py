"""Collect the rollouts of on-policy algorithms in shards, in any number of processes."""
