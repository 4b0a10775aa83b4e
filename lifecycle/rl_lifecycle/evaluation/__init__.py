"""Evaluations and the gate: requests, shards, statistics and the decision. Pure decisions."""
