"""Which seeds a run uses: training, selection and gate never share one.

Each purpose has its own third of the 31-bit integers, so two purposes cannot meet; two runs of the
same purpose meet only if their hashes do, which :func:`check_no_overlap` refuses. 31 bits, because
some simulators take no more.
"""

import hashlib
from enum import StrEnum

from rl_lifecycle.errors import OverlappingSeedsError
from rl_lifecycle.records.record import Record

SPAN = 2**31 // 3
LONGEST = (
    100_000  # episodes that one evaluation may ask for: a start leaves this much room in its third
)


class Purpose(StrEnum):
    """What seeds are drawn for."""

    TRAINING = "training"
    SELECTION = "selection"
    GATE = "gate"


class SeedRange(Record):
    """Consecutive episode seeds `first_seed … first_seed + n_episodes - 1`."""

    first_seed: int
    n_episodes: int

    def overlaps(self, other: "SeedRange") -> bool:
        """Tell whether the two ranges share a seed."""
        return (
            self.first_seed < other.first_seed + other.n_episodes
            and other.first_seed < self.first_seed + self.n_episodes
        )


def hashed_int(*parts: object) -> int:
    """Make a 64-bit integer from parts, the same on every machine and in every Python.

    >>> hashed_int("a", 1) == hashed_int("a", 1) != hashed_int("a1")
    True
    """
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def first_seed(purpose: Purpose, experiment: str, run: str) -> int:
    """Where the episode seeds of a run begin for a purpose.

    >>> first_seed(Purpose.TRAINING, "cartpole", "r1") < SPAN <= first_seed(Purpose.SELECTION, "cartpole", "r1")
    True
    """
    offset = list(Purpose).index(purpose) * SPAN
    return offset + hashed_int(purpose, experiment, run) % (SPAN - LONGEST)


def trial_seed(seed: int, run: str, trial: str, *, reseed: bool) -> int:
    """The seed of a trial: another one every night, or with `reseed` off the same every night."""
    parts = (seed, run, trial) if reseed else (seed, trial)
    return hashed_int(Purpose.TRAINING, *parts) % (SPAN - LONGEST)


def segment_seed(trial: int, segment: int, stream: str) -> int:
    """The seed of one random stream within one segment of a trial, in 32 bits as NumPy's and
    torch's take them.

    :param trial: the trial's seed.
    :param segment: its index, from 0.
    :param stream: `python`, `numpy`, `torch`, `env-3` …
    """
    return hashed_int("segment", trial, segment, stream) % 2**32


def check_no_overlap(fresh: SeedRange, name: str, served: dict[str, SeedRange]) -> None:
    """Refuse seeds that were served before.

    :param served: name of an earlier evaluation → its seeds.
    :raises OverlappingSeedsError: if any of them shares a seed with `fresh`.
    """
    for other, seeds in served.items():
        if fresh.overlaps(seeds):
            raise OverlappingSeedsError(name, other)
