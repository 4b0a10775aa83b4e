"""Collect the rollouts of on-policy algorithms in shards."""
