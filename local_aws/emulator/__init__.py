"""The only access to the emulator: its pinned parts, calls in this process, and the wire format."""
