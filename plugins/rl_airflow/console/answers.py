"""Answers for everyone who asks: a page is read once, however many browsers show it.

A page is read in a thread of its own, so that a slow AWS takes no thread from Airflow's API.
"""

import asyncio
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")

#: Pages that are read at the same time.
THREADS = 4
#: Answers that are kept. The least recently asked one is dropped first.
MOST_ANSWERS = 500
#: How long a browser waits for a page, seconds. The reading goes on, and the next one gets it.
PATIENCE_S = 30.0


class NoAnswerYetError(Exception):
    """The page is still being read."""

    def __init__(self) -> None:
        super().__init__(
            f"AWS has not answered for {PATIENCE_S:.0f} s; the page asks again by itself"
        )


@dataclass
class _Answer:
    future: "Future[Any]"
    fresh_until: float = float("inf")  # while it is being read


class SharedAnswers:
    """Answers by key. The first who asks has it read, and the others get the same answer.

    :param clock: monotonic seconds.
    """

    def __init__(self, threads: int = THREADS, clock: Callable[[], float] = time.monotonic) -> None:
        self._pool = ThreadPoolExecutor(threads, "console-page")
        self._clock, self._lock = clock, threading.Lock()
        self._answers: OrderedDict[Hashable, _Answer] = OrderedDict()

    def ask(self, key: Hashable, read: Callable[[], T], fresh_s: float) -> "Future[T]":
        """Ask for an answer. Never call this from a reading.

        :param read: is called in another thread, unless there is a fresh answer.
        :param fresh_s: how long the answer is good. An error is an answer, too.
        """
        with self._lock:
            answer = self._answers.get(key)
            if answer is None or self._clock() >= answer.fresh_until:
                answer = _Answer(self._pool.submit(read))
                self._answers[key] = answer
                answer.future.add_done_callback(lambda _: self._date(answer, fresh_s))
            self._answers.move_to_end(key)
            while len(self._answers) > MOST_ANSWERS:
                self._answers.popitem(last=False)
            return answer.future

    def _date(self, answer: _Answer, fresh_s: float) -> None:
        answer.fresh_until = self._clock() + fresh_s


async def wait_for(future: "Future[T]", patience_s: float = PATIENCE_S) -> T:
    """Wait for an answer without holding a thread.

    :raises NoAnswerYetError: if it takes too long.
    """
    waiting = asyncio.shield(asyncio.wrap_future(future))
    try:
        return await asyncio.wait_for(waiting, patience_s)
    except TimeoutError:
        raise NoAnswerYetError from None
