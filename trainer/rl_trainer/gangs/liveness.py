"""Beats: how a learner notices that a machine of its gang is gone.

The main process of each collecting machine counts a number up in the learner's store, once a
second. It steps no environments, so nothing there can hold it up. A connection that is closed is
noticed at once. A machine that has vanished closes no connection, and is noticed by its silence.
Each side uses its own monotonic clock, so the clocks of two machines are never compared.
"""

import time
from collections.abc import Callable, Iterable
from datetime import timedelta

from torch.distributed import TCPStore

from rl_trainer.gangs.transport import LostPeerError

#: Seconds between two beats.
BEAT_S = 1.0
#: After this many seconds without a beat a machine is lost.
SILENCE_S = 5.0
#: Prefixes of keys in the learner's store.
BEAT, LEAVING = "beat/", "leaving/"


class SeatPulse:
    """The beats of one machine.

    :param address: the address of the learner's store.
    :raises LostPeerError: if the learner's store does not answer.
    """

    def __init__(self, address: str, port: int, seat: int) -> None:
        self._seat = seat
        try:
            self._store = TCPStore(
                address, port, timeout=timedelta(seconds=SILENCE_S), wait_for_workers=False
            )
        except RuntimeError as error:
            raise _no_answer(error) from error

    def beat(self) -> None:
        """Count one beat. The learner's process answers, so this also shows that it is alive.

        :raises LostPeerError: if it does not answer.
        """
        try:
            self._store.add(f"{BEAT}{self._seat}", 1)
        except RuntimeError as error:
            raise _no_answer(error) from error

    def leave(self) -> None:
        """Ask to be left out of the next generation.

        :raises LostPeerError: if the learner does not answer.
        """
        try:
            self._store.add(f"{LEAVING}{self._seat}", 1)
        except RuntimeError as error:
            raise _no_answer(error) from error


class SeatWatch:
    """The learner's view of the beats.

    :param store: the learner's own store.
    :param clock: monotonic seconds.
    """

    def __init__(
        self, store: TCPStore, seats: Iterable[int], clock: Callable[[], float] = time.monotonic
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
        return [seat for seat in self._seen if self._store.add(f"{LEAVING}{seat}", 0) > 0]


def _no_answer(error: RuntimeError) -> LostPeerError:
    return LostPeerError(f"the learner does not answer: {str(error).splitlines()[0]}")
