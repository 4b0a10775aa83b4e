"""The command line, and its conversation with a running server."""
