"""Workers that take turns at every call of AWS, in an order that a seed decides."""

import random
import threading
from collections.abc import Callable
from typing import Any


class Killed(BaseException):
    """Ends a worker at a call, as SIGKILL would."""


class Worker:
    """One worker, in a thread that runs only between :meth:`go_on` and its next call of AWS.

    :param work: is given the worker; its AWS clients must be passed to :meth:`watch`.
    """

    def __init__(self, name: str, work: Callable[["Worker"], Any]) -> None:
        self.name, self.error = name, None
        self.work = work
        self._may_go, self._stopped = threading.Semaphore(0), threading.Semaphore(0)
        self._dies = False
        self.is_over = False
        self.calls: list[str] = []
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self._stopped.acquire()

    def watch(self, *clients: Any) -> None:
        """Stop before every call of these clients."""
        for client in clients:
            client.meta.events.register("before-call", self._stop)

    def go_on(self, *, dies: bool = False) -> None:
        """Let the worker run until its next call or its end, or kill it at this call."""
        self._dies = dies
        self._may_go.release()
        assert self._stopped.acquire(timeout=60), f"{self.name} hangs after {self.calls[-3:]}"

    def _run(self) -> None:
        try:
            self._wait()
            self.work(self)
        except Killed:
            self.calls.append("killed")
        except Exception as error:  # the test looks at it in its own thread
            self.error = error
        self.is_over = True
        self._stopped.release()

    def _stop(self, model: Any, **_: Any) -> None:
        self.calls.append(model.name)
        self._wait()

    def _wait(self) -> None:
        self._stopped.release()
        self._may_go.acquire()
        if self._dies:
            raise Killed


def take_turns(
    rng: random.Random,
    make: Callable[[str], Worker],
    *,
    n_workers: int,
    n_steps: int,
    kill_rate: float,
    between: Callable[[int], None],
) -> list[str]:
    """Let workers take turns, and replace each one that ended or was killed.

    :param between: is called before each step with its number.
    :return: the calls in their order, as `worker:call`, for a person who replays a seed
    """
    workers = [make(f"w{index}") for index in range(n_workers)]
    order: list[str] = []
    for step in range(n_steps):
        between(step)
        index = rng.randrange(n_workers)
        worker = workers[index]
        worker.go_on(dies=rng.random() < kill_rate)
        order.append(f"{worker.name}:{worker.calls[-1] if worker.calls else 'began'}")
        if worker.is_over:
            if worker.error is not None:
                raise worker.error
            workers[index] = make(f"w{n_workers + step}")
    for worker in workers:  # none may go on behind the test's back
        while not worker.is_over:
            worker.go_on(dies=True)
    return order
