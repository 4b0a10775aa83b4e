"""A thread that writes what a segment left behind while the next one trains: in order, one at a
time.
"""

import queue
import threading
import time
from collections.abc import Callable

LOOK_S = 0.1


class Committer:
    """Runs jobs one after another; none waits behind another, so that little is lost when the
    machine vanishes.

    A job that raises ends the thread; the error comes back at the next call.

    :param check: called with the seconds waited while the training thread waits for a job; what it
        raises ends the wait, e.g. when a machine that is being taken back has no more time for a
        store that does not answer.
    """

    def __init__(self, check: Callable[[float], None] | None = None) -> None:
        self._check = check or (lambda _waited_s: None)
        self._jobs: queue.Queue[Callable[[], object] | None] = queue.Queue()
        self._error: BaseException | None = None
        self._room = threading.Semaphore(1)
        self._thread = threading.Thread(target=self._run, name="commits", daemon=True)
        self._thread.start()

    def submit(self, job: Callable[[], object]) -> None:
        """Hand over a job; waits while the one before is not done.
        :raises BaseException: what an earlier job raised.
        """
        self._wait_for(lambda: self._room.acquire(timeout=LOOK_S))
        self.raise_if_failed()
        self._jobs.put(job)

    def wait(self) -> None:
        """Wait for the job that is being done, if there is one.
        :raises BaseException: what a job raised.
        """
        self._wait_for(lambda: self._room.acquire(timeout=LOOK_S))
        self._room.release()
        self.raise_if_failed()

    def raise_if_failed(self) -> None:
        """Raise what a job raised, in the thread that asks."""
        if self._error is not None:
            raise self._error

    def finish(self) -> None:
        """Wait for all jobs. :raises BaseException: what one of them raised."""
        self._jobs.put(None)
        self._wait_for(self._ended)
        self.raise_if_failed()

    def _ended(self) -> bool:
        self._thread.join(LOOK_S)
        return not self._thread.is_alive()

    def _wait_for(self, done: Callable[[], bool]) -> None:
        began = time.monotonic()
        while not done():
            self._check(time.monotonic() - began)

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                job()
            except BaseException as error:  # handed to the training thread, which raises it
                self._error = error
                return
            finally:
                del job  # it holds a whole model
                self._room.release()
