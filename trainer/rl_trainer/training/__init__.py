"""Training a trial: attempts, segments, models, interruptions and warm starts."""
