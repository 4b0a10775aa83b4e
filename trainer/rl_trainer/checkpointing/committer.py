"""A thread that stores the results of a segment while the next segment trains."""

import queue
import threading
import time
from collections.abc import Callable

#: Seconds between two calls of the check while the training thread waits.
CHECK_EVERY_S = 0.1


class Committer:
    """Runs jobs one after another in its own thread.

    No job waits behind another, so that little is lost when the machine disappears. A job that
    raises an error ends the thread. The next call of a method raises this error again.

    :param check: called repeatedly while the training thread waits for a job, with the seconds
        waited. An error that it raises ends the wait, for example when AWS takes back the machine
        and the store does not answer.
    """

    def __init__(self, check: Callable[[float], None] | None = None) -> None:
        self._check = check or (lambda _waited_s: None)
        self._jobs: queue.Queue[Callable[[], object] | None] = queue.Queue()
        self._error: BaseException | None = None
        self._slot = threading.Semaphore(1)
        self._thread = threading.Thread(target=self._run, name="commits", daemon=True)
        self._thread.start()

    def submit(self, job: Callable[[], object]) -> None:
        """Start a job, after the job before it is done.

        :raises BaseException: the error of an earlier job.
        """
        self._wait_for(lambda: self._slot.acquire(timeout=CHECK_EVERY_S))
        self.raise_if_failed()
        self._jobs.put(job)

    def wait(self) -> None:
        """Wait for the job that is running, if there is one.

        :raises BaseException: the error of a job.
        """
        self._wait_for(lambda: self._slot.acquire(timeout=CHECK_EVERY_S))
        self._slot.release()
        self.raise_if_failed()

    def raise_if_failed(self) -> None:
        """Raise the error of a job in the calling thread."""
        if self._error is not None:
            raise self._error

    def finish(self) -> None:
        """Wait for all jobs, and end the thread.

        :raises BaseException: the error of a job.
        """
        self._jobs.put(None)
        self._wait_for(self._ended)
        self.raise_if_failed()

    def _ended(self) -> bool:
        self._thread.join(CHECK_EVERY_S)
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
                del job  # frees the whole model that the job holds
                self._slot.release()
