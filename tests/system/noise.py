"""What no log of a task may have: lines of other packages about themselves."""

NOISE = ("Found endpoint", "Found credentials", "Deprecat", "py.warnings", "graphviz")
