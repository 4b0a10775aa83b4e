"""Any number of processes and machines, whatever happens to them: the same bytes and curves."""

import random
from typing import Any

import pytest

from tests.kill_rounds import seeds
from tests.trainer.gangs.grid import Trained, cells, disturb
from tests.trainer.gangs.stage import Stage, curves

#: How often something happens to a member in each round.
TIMES = 5


class Alone:
    """What one process gives, for each training that was asked for."""

    def __init__(self) -> None:
        self._found: dict[Trained, tuple[str, list[Any]]] = {}

    def of(self, what: Trained, stage: Stage) -> tuple[str, list[Any]]:
        """Return the digest and the curves."""
        if what not in self._found:
            self._found[what] = stage.alone(what.document)
        return self._found[what]


@pytest.fixture(scope="module")
def alone() -> Alone:
    """Trainings of this module in one process."""
    return Alone()


@pytest.mark.kills
@pytest.mark.parametrize("seed", seeds(2))
def test_who_collects_changes_no_byte_whatever_happens_to_members(
    stage: Stage, alone: Alone, seed: int
) -> None:
    """Members are killed, interrupted, vanish, lose a process, join and leave: five times.

    Every seed has its own cell of the grid, and 256 seeds have all of them.
    """
    grid = cells()
    cell = grid[seed % len(grid)]
    machines = stage.machines(cell.what.document, cell.machines, cell.workers)
    machines.pace(cell.pace_s)
    print(f"seed {seed}: {cell}")  # noqa: T201  pytest shows it with a failure
    disturb(machines, cell.machines, random.Random(seed), TIMES)
    done = machines.to_the_end()
    assert (done["digest"], curves(machines.store)) == alone.of(cell.what, stage)
