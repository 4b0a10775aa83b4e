"""A thread that writes what a segment left behind while the next one trains: in order, one at a time."""

import queue
import threading
from collections.abc import Callable


class Committer:
    """Runs jobs one after another; holds at most one that waits, so that little is lost when the machine vanishes.

    A job that raises ends the thread; the error comes back at the next call.
    """

    def __init__(self) -> None:
        self._jobs: queue.Queue[Callable[[], None] | None] = queue.Queue()
        self._error: BaseException | None = None
        self._room = threading.Semaphore(1)
        self._thread = threading.Thread(target=self._run, name="commits", daemon=True)
        self._thread.start()

    def submit(self, job: Callable[[], None]) -> None:
        """Hand over a job; waits while the one before is not done. :raises BaseException: what an earlier job raised."""
        self._room.acquire()
        self.raise_if_failed()
        self._jobs.put(job)

    def raise_if_failed(self) -> None:
        """Raise what a job raised, in the thread that asks."""
        if self._error is not None:
            raise self._error

    def finish(self) -> None:
        """Wait for all jobs. :raises BaseException: what one of them raised."""
        self._jobs.put(None)
        self._thread.join()
        self.raise_if_failed()

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                job()
            except BaseException as error:  # handed to the training thread, which raises it
                self._error = error
                return
            finally:
                self._room.release()
