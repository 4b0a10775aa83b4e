"""Writes pages for people: the report of a decision, with plots and films."""
