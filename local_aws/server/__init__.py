"""The server: its start, the layers in front of the emulator, and the state that is saved."""
