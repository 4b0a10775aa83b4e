"""Deploying, planning, comparing and destroying an environment."""
