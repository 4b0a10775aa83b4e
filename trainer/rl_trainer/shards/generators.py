"""The global random generators of Python, NumPy and torch: seed them, and switch between shards."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch

from rl_lifecycle.experiment.seeds import segment_seed


class _States(NamedTuple):
    """The states of the global generators."""

    python: Any
    numpy: Any
    torch: torch.Tensor

    @classmethod
    def now(cls) -> "_States":
        return cls(random.getstate(), np.random.get_state(), torch.get_rng_state())

    def restore(self) -> None:
        random.setstate(self.python)
        np.random.set_state(self.numpy)
        torch.set_rng_state(self.torch)


def seed_generators(trial_seed: int, segment: int, purpose: str = "") -> None:
    """Seed every global generator for a segment.

    :param purpose: separates the seeds for building (initial weights) from those for training.
    """
    random.seed(segment_seed(trial_seed, segment, f"python{purpose}"))
    np.random.seed(segment_seed(trial_seed, segment, f"numpy{purpose}"))
    torch.manual_seed(segment_seed(trial_seed, segment, f"torch{purpose}"))


@contextmanager
def preserved_generators() -> Iterator[None]:
    """Give the global generators back as they were."""
    before = _States.now()
    try:
        yield
    finally:
        before.restore()


class ShardGenerators:
    """The generators of one shard in one segment.

    SB3, torch's distributions and some environments draw from the global generators. So these take
    the states of the shard while it is collected. Then no shard sees which other shards the same
    process collects.
    """

    def __init__(self, trial_seed: int, segment: int, shard: int) -> None:
        with preserved_generators():
            seed_generators(trial_seed, segment, purpose=f"-shard-{shard}")
            self._states = _States.now()

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Let everything draw from this shard's generators."""
        with preserved_generators():
            self._states.restore()
            try:
                yield
            finally:
                self._states = _States.now()
