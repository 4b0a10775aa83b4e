"""The seeds of a run: training, selection and gate never share a seed.

Each purpose has its own third of the 31-bit integers. Two runs of one purpose share seeds only if
their hashes are close, which :func:`check_no_overlap` refuses. Some simulators accept no more than
31 bits.
"""

import hashlib
from enum import StrEnum

from rl_lifecycle.errors import OverlappingSeedsError
from rl_lifecycle.records.record import Record

SPAN = 2**31 // 3
#: The most episodes of one evaluation. Each first seed leaves room for so many in its third.
LONGEST = 100_000


class Purpose(StrEnum):
    """The purposes of seeds."""

    TRAINING = "training"
    SELECTION = "selection"
    GATE = "gate"


class SeedRange(Record):
    """Consecutive episode seeds `first_seed … first_seed + n_episodes - 1`."""

    first_seed: int
    n_episodes: int

    def overlaps(self, other: "SeedRange") -> bool:
        """Whether the two ranges share a seed."""
        return (
            self.first_seed < other.first_seed + other.n_episodes
            and other.first_seed < self.first_seed + self.n_episodes
        )


def hashed_int(*parts: object) -> int:
    """Compute a 64-bit integer from parts. It is the same on every machine and in every Python.

    >>> hashed_int("a", 1) == hashed_int("a", 1) != hashed_int("a1")
    True
    """
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def first_seed(purpose: Purpose, experiment: str, run: str) -> int:
    """The first episode seed of a run for a purpose.

    >>> training = first_seed(Purpose.TRAINING, "cartpole", "r1")
    >>> selection = first_seed(Purpose.SELECTION, "cartpole", "r1")
    >>> training < SPAN <= selection
    True
    """
    offset = list(Purpose).index(purpose) * SPAN
    return offset + hashed_int(purpose, experiment, run) % (SPAN - LONGEST)


def trial_seed(seed: int, run: str, trial: str, *, reseed: bool) -> int:
    """The seed of a trial.

    :param reseed: False means the same seed in every run.
    """
    parts = (seed, run, trial) if reseed else (seed, trial)
    return hashed_int(Purpose.TRAINING, *parts) % (SPAN - LONGEST)


def segment_seed(trial: int, segment: int, stream: str) -> int:
    """The seed of one random stream in a segment of a trial: 32 bits, as NumPy and torch expect.

    :param trial: the trial's seed.
    :param segment: the index of the segment, from 0.
    :param stream: `python`, `numpy`, `torch`, `env-3` …
    """
    return hashed_int("segment", trial, segment, stream) % 2**32


def check_no_overlap(fresh: SeedRange, name: str, served: dict[str, SeedRange]) -> None:
    """Refuse seeds that an earlier evaluation has used.

    :param served: name of an earlier evaluation → its seeds.
    :raises OverlappingSeedsError: if one of them shares a seed with `fresh`.
    """
    for other, seeds in served.items():
        if fresh.overlaps(seeds):
            raise OverlappingSeedsError(name, other)
