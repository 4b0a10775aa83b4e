"""How many seeds the tests that kill are run with: few in `make test`, many in `make soak`."""

import os


def seeds(normally: int, share: int = 1) -> range:
    """The seeds to parametrise a test with. Each names its run: the same seed kills at the same
    instants.

    :param share: a test whose round takes minutes runs one round in so many.
    """
    return range(-(-int(os.environ.get("NIGHTSHIFT_KILL_ROUNDS", normally * share)) // share))
