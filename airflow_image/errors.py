"""The error of this package."""


class StartRefusedError(Exception):
    """A service must not start. The message is one line: what is wrong, then what to do."""
