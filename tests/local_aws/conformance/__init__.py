"""Behaviours of AWS, checked against the local AWS or a real account."""
