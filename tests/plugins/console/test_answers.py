"""One reading for everyone who asks, in a thread that is not Airflow's."""

import asyncio
import threading
from concurrent.futures import Future

import pytest

from rl_airflow.console.answers import NoAnswerYetError, SharedAnswers, wait_for


def test_everyone_who_asks_gets_the_same_reading() -> None:
    """Also those who ask while it is being read. After some seconds it is read again."""
    now, begun, go_on = [0.0], list[str](), threading.Event()

    def read() -> int:
        begun.append(threading.current_thread().name)
        go_on.wait(30)
        return len(begun)

    answers = SharedAnswers(clock=lambda: now[0])
    asked = [answers.ask("home", read, 10.0) for _ in range(5)]
    go_on.set()
    assert [one.result(30) for one in asked] == [1] * 5
    assert begun[0].startswith("console-page")
    now[0] = 9.9
    assert answers.ask("home", read, 10.0).result(30) == 1
    now[0] = 10.0
    assert answers.ask("home", read, 10.0).result(30) == 2


def test_an_error_is_an_answer_too() -> None:
    """A bucket that is away is not asked once for each browser."""
    tried: list[int] = []

    def read() -> None:
        tried.append(1)
        raise ValueError("away")

    answers = SharedAnswers(clock=lambda: 0.0)
    for _ in range(3):
        with pytest.raises(ValueError, match="away"):
            answers.ask("home", read, 10.0).result(30)
    assert len(tried) == 1


def test_a_browser_waits_for_some_time_only() -> None:
    """The reading goes on for the next one."""
    future: Future[int] = Future()
    with pytest.raises(NoAnswerYetError, match="asks again by itself"):
        asyncio.run(wait_for(future, 0.01))
    assert not future.cancelled()
