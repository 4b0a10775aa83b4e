"""Environments for training: make, wrap, seed and step them."""
