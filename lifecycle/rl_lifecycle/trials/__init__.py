"""The life of a trial: its evidence, its state and the next action. Pure decisions."""
