"""Training of a trial: one attempt trains its segments in order and commits each of them."""
