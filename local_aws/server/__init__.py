"""The server: how it starts, what it puts in front of the emulator, and what survives a crash."""
