"""Judging: from the shards that are there to a decision. Loads no wheel and no policy."""
