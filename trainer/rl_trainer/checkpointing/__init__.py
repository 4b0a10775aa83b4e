"""Checkpoints: the state of a model, replay buffers, the chain in the store, and digests."""
