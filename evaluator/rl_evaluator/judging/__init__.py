"""Decides on a candidate from the stored shards. Loads no wheel and no policy."""
