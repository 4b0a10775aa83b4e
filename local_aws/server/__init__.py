"""The server: its parts put together, what stands before the emulator, and what survives a
crash.
"""
