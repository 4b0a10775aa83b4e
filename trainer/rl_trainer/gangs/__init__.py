"""Collect the shards of a trial in several processes, on one machine or on several."""
