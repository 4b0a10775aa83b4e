"""Machines that can be rented: their types, and what is known of each."""
