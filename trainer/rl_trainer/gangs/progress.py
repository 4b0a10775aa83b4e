"""What the collecting processes of a machine tell their starter, in memory that they share."""

import time
from multiprocessing.context import BaseContext

#: What stands in place of a time while a process waits for the learner, and when it ends by itself.
RESTS, DONE = 0.0, -1.0


class Progress:
    """How far each process is.

    :param number: of processes.
    """

    def __init__(self, context: BaseContext, number: int) -> None:
        self._steps = context.RawArray("q", number)
        self._n_envs = context.RawArray("q", number)
        self._since = context.RawArray("d", number)

    @property
    def steps(self) -> int:
        """How many environment steps all processes have made together."""
        return sum(self._steps)

    def of(self, index: int) -> "OwnProgress":
        """Return the part in which one process writes."""
        return OwnProgress(self, index)

    def write(self, index: int, *, since: float, n_envs: int | None = None, steps: int = 0) -> None:
        """Change the row of a process.

        :param since: when it began what it does, seconds of the machine's monotonic clock.
        :param n_envs: how many environments it has.
        :param steps: how many environment steps it has made in addition.
        """
        self._since[index] = since
        self._n_envs[index] = self._n_envs[index] if n_envs is None else n_envs
        self._steps[index] += steps

    def overdue(self, index: int, limit_s: float) -> bool:
        """Whether a process has not come further for so long for each of its environments."""
        since: float = self._since[index]
        n_envs: int = max(1, self._n_envs[index])
        return since > RESTS and time.monotonic() - since > limit_s * n_envs

    def is_done(self, index: int) -> bool:
        """Whether a process has come to its end."""
        return bool(self._since[index] == DONE)


class OwnProgress:
    """The part of one process."""

    def __init__(self, all_: Progress, index: int) -> None:
        self._all, self._index = all_, index

    def begin(self, n_envs: int) -> None:
        """Say that shards of so many environments are made now."""
        self._all.write(self._index, since=time.monotonic(), n_envs=n_envs)

    def step(self, n_steps: int) -> None:
        """Say that so many environment steps were made."""
        self._all.write(self._index, since=time.monotonic(), steps=n_steps)

    def rest(self) -> None:
        """Say that this process waits for the learner."""
        self._all.write(self._index, since=RESTS)

    def end(self) -> None:
        """Say that this process ends by itself."""
        self._all.write(self._index, since=DONE)
