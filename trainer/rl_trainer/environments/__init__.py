"""The environments of a training: made, wrapped, seeded and stepped."""
