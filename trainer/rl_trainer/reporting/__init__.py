"""What a training says of itself: heartbeats, the journal, learning curves."""
