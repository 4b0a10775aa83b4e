"""Beats: how a learner notices that a machine of its gang is gone.

The main process of each collecting machine counts a number up in the learner's store, once a
second. It steps no environments, so nothing there can hold it up. A connection that is closed is
noticed at once. A machine that has vanished closes no connection, and is noticed by its silence.
Each side uses its own monotonic clock, so the clocks of two machines are never compared.
"""

import threading
import time
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any

import torch.distributed

from rl_trainer.gangs.transport import LostPeerError

#: torch's module, whose published types leave out its store.
_distributed: Any = torch.distributed
#: Seconds between two beats.
BEAT_S = 1.0
#: After this many seconds without a beat a machine is lost.
SILENCE_S = 5.0
#: Prefixes of keys in the learner's store.
BEAT, LEAVING = "beat/", "leaving/"


class SeatPulse:
    """The beats of one machine, in a thread of their own.

    A call of the store waits as long as the learner's machine keeps the connection open, also if
    that machine has vanished. So this thread calls it, and the others look how long ago it was
    answered.

    :param address: the address of the learner's store.
    """

    def __init__(
        self, address: str, port: int, seat: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._address, self._port, self._seat, self._clock = address, port, seat, clock
        self._answered_at = clock()
        self._problem = ""
        self._leaving, self._closed = threading.Event(), threading.Event()
        threading.Thread(target=self._run, name="pulse", daemon=True).start()

    def check(self) -> None:
        """Notice that the learner does not answer.

        :raises LostPeerError: if it does not.
        """
        if self._problem:
            raise LostPeerError(f"the learner does not answer: {self._problem}")
        if self._clock() - self._answered_at > SILENCE_S:
            raise LostPeerError(f"the learner has not answered for {SILENCE_S:g} s")

    def leave(self) -> None:
        """Ask to be left out of the next generation."""
        self._leaving.set()

    def close(self) -> None:
        """Beat no more."""
        self._closed.set()

    def _run(self) -> None:
        try:
            store = _distributed.TCPStore(
                self._address,
                self._port,
                timeout=timedelta(seconds=SILENCE_S),
                wait_for_workers=False,
            )
            while not self._closed.is_set():
                store.add(f"{BEAT}{self._seat}", 1)
                if self._leaving.is_set():
                    store.set(f"{LEAVING}{self._seat}", "1")
                self._answered_at = self._clock()
                self._closed.wait(BEAT_S)
        except RuntimeError as error:  # torch's own errors are RuntimeErrors, too
            self._problem = str(error).splitlines()[0]


class SeatWatch:
    """The learner's view of the beats.

    :param store: the learner's own store.
    :param clock: monotonic seconds.
    """

    def __init__(
        self, store: Any, seats: Iterable[int], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._store, self._clock = store, clock
        now = clock()
        self._seen = dict.fromkeys(seats, (0, now))
        self._next = now

    def silent_seats(self) -> list[int]:
        """Return the machines that have not beaten for too long. It looks once a second."""
        now = self._clock()
        if now < self._next:
            return []
        if now - self._next > SILENCE_S:
            # This process itself did not run, or was busy. Nothing is known about that time.
            self._seen = {seat: (count, now) for seat, (count, _) in self._seen.items()}
        self._next = now + BEAT_S
        for seat, (before, _) in self._seen.items():
            if (count := self._store.add(f"{BEAT}{seat}", 0)) != before:
                self._seen[seat] = (count, now)
        return [seat for seat, (_, at) in self._seen.items() if now - at > SILENCE_S]

    def leaving_seats(self) -> list[int]:
        """Return the machines that asked to be left out."""
        return [seat for seat in self._seen if self._store.check([f"{LEAVING}{seat}"])]
