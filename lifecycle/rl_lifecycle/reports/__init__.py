"""The summary of a run: what was trained, what it cost, and what was decided."""
