"""What a training reports: heartbeats, the journal, learning curves and start-up times."""
