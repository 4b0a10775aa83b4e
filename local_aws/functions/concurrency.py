"""Limits the number of functions that run at the same time.

On AWS, every execution environment has its own processor. Here, a hundred simultaneous cold starts
would all reach their time limits. So an invocation waits until fewer functions run than there are
slots, or until the machine has idle time. Its time limit starts after the wait.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

IDLE_ENOUGH = 0.25
TICK_S = 0.1
MORE_AT_ONCE = 8
"""The number of additional invocations that may start when the machine is idle."""


class IdleMeter:
    """Measures the share of time in which the processors were idle. It works on Linux only."""

    def __init__(self, path: Path = Path("/proc/stat")) -> None:
        self._path = path
        self._last = self._read()

    def _read(self) -> tuple[int, int]:
        """Return the idle and the total ticks since boot."""
        try:
            numbers = [int(n) for n in self._path.read_text().splitlines()[0].split()[1:]]
        except (OSError, IndexError, ValueError):
            return 0, 0
        return numbers[3] + numbers[4], sum(numbers[:8])

    def idle_share(self) -> float:
        """Return the idle share since the last call. It is 0 if it cannot be measured."""
        idle, total = self._read()
        before_idle, before_total = self._last
        self._last = idle, total
        return (idle - before_idle) / (total - before_total) if total > before_total else 0.0


class ConcurrencyLimit:
    """Lets invocations start in the order of their arrival."""

    def __init__(self, slots: int | None = None, meter: IdleMeter | None = None) -> None:
        self._slots = slots or max(4, 2 * (os.cpu_count() or 2))
        self._meter = meter or IdleMeter()
        self._condition = threading.Condition()
        self._running = 0
        self._extra = 0
        self._queue: list[object] = []

    @contextlib.contextmanager
    def slot(self, nested: bool) -> Iterator[None]:
        """Run the body in a slot.

        :param nested: whether the caller is itself a function in a slot. Then the invocation starts
            at once, because otherwise both could wait for ever.
        """
        if not nested:
            self._enter()
        else:
            with self._condition:
                self._running += 1
        try:
            yield
        finally:
            with self._condition:
                self._running -= 1
                self._condition.notify_all()

    def _enter(self) -> None:
        """Wait until this invocation may start."""
        ticket = object()
        with self._condition:
            self._queue.append(ticket)
            while not (self._queue[0] is ticket and self._has_room()):
                if (
                    not self._condition.wait(TICK_S)
                    and self._queue[0] is ticket
                    and self._meter.idle_share() >= IDLE_ENOUGH
                ):
                    self._extra = MORE_AT_ONCE
            self._queue.pop(0)
            self._running += 1
            self._condition.notify_all()

    def _has_room(self) -> bool:
        """Say whether one more invocation may start, and use up an additional start if needed."""
        if self._running < self._slots:
            return True
        if self._extra > 0:
            self._extra -= 1
            return True
        return False
