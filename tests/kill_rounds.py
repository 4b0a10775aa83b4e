"""The seeds of the tests that kill: few in `make test`, many in `make soak`."""

import os


def seeds(normally: int, share: int = 1) -> range:
    """Return the seeds for a test; a seed repeats its run, with kills at the same instants.

    :param normally: rounds in `make test`; NIGHTSHIFT_KILL_ROUNDS overrides it
    :param share: a slow test runs only one of this many rounds
    """
    return range(-(-int(os.environ.get("NIGHTSHIFT_KILL_ROUNDS", normally * share)) // share))
