"""Deploying, planning, comparing and deleting the stacks."""
