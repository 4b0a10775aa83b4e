"""Plays episodes: loads policies, environments and wheels, and answers requests that need them."""
