"""Triggers: they look and wait, and never act; what is to be done, the worker does."""
