"""The life of a trial: what is seen of it, its state, and the next action. Pure decisions."""
