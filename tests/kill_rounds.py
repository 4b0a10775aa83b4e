"""How many seeds the tests that kill are run with: few in `make test`, many in `make soak`."""

import os


def seeds(normally: int) -> range:
    """The seeds to parametrise a test with. Each names its run: the same seed kills at the same instants."""
    return range(int(os.environ.get("NIGHTSHIFT_KILL_ROUNDS", normally)))
