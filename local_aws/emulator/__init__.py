"""The one door to the emulator: its pinned seams, calls in this process, and the wire format."""
