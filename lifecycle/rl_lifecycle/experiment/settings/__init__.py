"""Hyper-parameters: what each key may hold, and the checks before a machine is rented."""
