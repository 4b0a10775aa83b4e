"""Operators, one file per thing they act on."""
