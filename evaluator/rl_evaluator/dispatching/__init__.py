"""Answers every request, and lets the player and the judge do the work. It loads no wheel."""
