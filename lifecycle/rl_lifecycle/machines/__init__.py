"""Machines: their types and prices, the request for one, and the ledger of their cost."""
