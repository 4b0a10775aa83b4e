"""Checks before anything is made: the account, the environment, and what is there already."""
