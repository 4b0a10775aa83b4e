"""The registry: versions, the champion pointer, its history, promotion and replay."""
