"""Beats: silence is noticed by the reader's own clock, and a busy reader blames no machine."""

import time
from collections.abc import Callable, Iterator

import pytest

from rl_lifecycle.trials.gangs import LOOPBACK
from rl_trainer.gangs.liveness import SILENCE_S, SeatPulse, SeatWatch
from rl_trainer.gangs.transport import LEARNER, Channel, LostPeerError, Rendezvous, bind


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        """The time."""
        return self.now


@pytest.fixture
def channel() -> Iterator[tuple[Channel, int]]:
    """A learner that is alone, and the port of its store."""
    with bind(LOOPBACK) as listening:
        port = listening.getsockname()[1]
        yield Channel(Rendezvous(LOOPBACK, port, 1), LEARNER, LOOPBACK, listening), port


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for something that another thread does."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_machine_that_beats_is_there(channel: tuple[Channel, int]) -> None:
    """And one that never beats is lost after some seconds."""
    learner, port = channel
    clock = Clock()
    watch = SeatWatch(learner.store, [1, 2], clock)
    pulse = SeatPulse(LOOPBACK, port, 1)
    for _ in range(int(SILENCE_S) + 2):
        clock.now += 1.0
        before = learner.store.add("beat/1", 0)
        wait_until(lambda before=before: learner.store.add("beat/1", 0) > before)  # type: ignore[misc]
        silent = watch.silent_seats()
    assert silent == [2]
    pulse.check()
    pulse.close()


def test_a_busy_learner_blames_no_machine(channel: tuple[Channel, int]) -> None:
    """It has not looked for a minute, so it gives every machine the whole time again."""
    clock = Clock()
    watch = SeatWatch(channel[0].store, [1], clock)
    clock.now += 1.0
    assert watch.silent_seats() == []
    clock.now += 60.0
    assert watch.silent_seats() == []
    for _ in range(int(SILENCE_S) + 1):
        clock.now += 1.0
        silent = watch.silent_seats()
    assert silent == [1]


def test_a_machine_asks_to_be_left_out(channel: tuple[Channel, int]) -> None:
    """The learner sees it at the end of the segment."""
    learner, port = channel
    watch = SeatWatch(learner.store, [1, 2])
    pulse = SeatPulse(LOOPBACK, port, 2)
    assert watch.leaving_seats() == []
    pulse.leave()
    wait_until(lambda: watch.leaving_seats() == [2])
    pulse.close()


def test_a_learner_that_is_not_there_is_noticed() -> None:
    """The thread that calls it may wait for ever, and the others do not."""
    with bind(LOOPBACK) as listening:  # it accepts connections, and never answers
        clock = Clock()
        pulse = SeatPulse(LOOPBACK, listening.getsockname()[1], 1, clock)
        pulse.check()
        clock.now += SILENCE_S + 1
        with pytest.raises(LostPeerError, match="the learner has not answered for 5 s"):
            pulse.check()
